from tf_lottery.analysis import storage


def test_bytes_of_a_sparse_kernel():
    # 10 of 32 weights and 4 biases: 4 bytes a value, 32 bits of mask, 4 + 1 row pointers.
    assert storage.num_bytes([((8, 4), 10)], num_dense=4) == {
        "dense": 4 * 36,
        "bitmask": 4 * 14 + 4,
        "csr": 4 * 14 + 4 * 10 + 4 * 5,
    }


def test_kernel_without_zeros_is_stored_dense():
    assert set(storage.num_bytes([((8, 4), 32)]).values()) == {128}


def test_parts_of_a_byte_are_full_bytes():
    assert storage.num_bytes([((3, 1), 1)])["bitmask"] == 5
    assert storage.num_bytes([((3, 1), 0.5)])["bitmask"] == 3


def test_sum_over_kernels():
    kernels = [((8, 4), 10), ((4, 2), 8)]
    parts = [storage.num_bytes([kernel]) for kernel in kernels]
    assert storage.num_bytes(kernels) == {
        name: sum(part[name] for part in parts) for name in storage.FORMATS
    }


def test_description():
    text = storage.describe({"dense": 1000, "bitmask": 200, "csr": 300})
    assert text == "Bytes: dense 1,000, bitmask 200, CSR 300"
