import numpy as np
import pytest

from tf_lottery.export import flatbuffer, flatbuffer_edits


@pytest.fixture
def file(dense_file, pruned):
    return dense_file(pruned((13, 7), 0.5), pruned((7, 3), 0.0))


def test_operator_codes_are_added_once(file):
    model = flatbuffer.read_model(file)
    assert [flatbuffer.operator_name(model, op) for op in model.subgraphs[0].operators] == [
        "FULLY_CONNECTED",
        "FULLY_CONNECTED",
    ]
    before = len(model.operatorCodes)
    index = flatbuffer_edits.operator_code(model, "FULLY_CONNECTED", 8)
    assert index == before == flatbuffer_edits.operator_code(model, "FULLY_CONNECTED", 8)
    code = model.operatorCodes[index]
    assert (code.builtinCode, code.deprecatedBuiltinCode, code.version) == (9, 9, 8)


def test_operator_codes_of_today_keep_off_the_field_of_old_runtimes(file):
    model = flatbuffer.read_model(file)
    code = model.operatorCodes[flatbuffer_edits.operator_code(model, "GELU", 1)]
    assert (code.builtinCode, code.deprecatedBuiltinCode) == (150, 127)


def test_unused_buffers_are_emptied_and_those_of_metadata_kept(file):
    from ai_edge_litert import schema_py_generated as schema

    model = flatbuffer.read_model(file)
    unused = flatbuffer_edits.add_buffer(model, np.ones(3, "float32"))
    kept = flatbuffer_edits.add_buffer(model, np.array([2.0, 3.0], "float32"))
    model.metadata = [schema.MetadataT(name=b"note", buffer=kept)]
    flatbuffer_edits.drop_unused_buffers(model)
    assert model.buffers[unused].data is None
    assert bytes(model.buffers[kept].data) == np.array([2.0, 3.0], "float32").tobytes()
    assert all(model.buffers[t.buffer].data is not None for t in model.subgraphs[0].tensors[1:3])
