import sys
import types

import numpy as np
import pytest

from tf_lottery.experiments.data import Reading, read_source
from tf_lottery.experiments.data import tfds as tfds_reader
from tf_lottery.experiments.data.image_folder import SUFFIXES


@pytest.fixture
def photos(tmp_path):
    """Folder of two classes: `dark` has two images of 4 x 6 pixels, `light` one."""
    from PIL import Image

    for name, value, count in (("light", 255, 1), ("dark", 51, 2)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(count):
            image = Image.fromarray(np.full((4, 6, 3), value, "uint8"))
            image.save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_table(tmp_path, separator):
    lines = "a,label,b\n1,dog,2\n\n3,cat,4.5\n".replace(",", separator)
    found = read_source(write(tmp_path / "t.csv", lines))
    ((x, y, weights),) = found.parts
    assert (x.tolist(), y.tolist(), weights) == ([[1, 2], [3, 4.5]], [1, 0], None)
    assert (x.dtype, found.classes) == ("float32", ("cat", "dog"))


def test_column_of_labels(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,c\n1,2,0\n3,4,1\n")
    ((x, y, _),) = read_source(path).parts
    assert (x.tolist(), y.tolist()) == ([[1, 2], [3, 4]], [0, 1])
    ((x, y, _),) = read_source(path, Reading(label_column="a")).parts
    assert (x.tolist(), y.tolist()) == ([[2, 0], [4, 1]], [1, 3])
    ((x, y, _),) = read_source(path, needs_labels=False).parts
    assert x.shape == (2, 3) and y is None
    ((x, y, _),) = read_source(path, needs_labels=False, input_shape=(2,)).parts
    assert (x.tolist(), y.tolist()) == ([[1, 2], [3, 4]], [0, 1])
    # As pandas writes an array.
    path = write(tmp_path / "numbered.csv", "0,1,Label\n5.5,6,b\n6.5,7,a\n")
    ((x, y, _),) = read_source(path).parts
    assert (x.tolist(), y.tolist()) == ([[5.5, 6], [6.5, 7]], [1, 0])
    path = write(tmp_path / "numbered.csv", "0,1,2,kind\n5,6,7,b\n6,7,8,a\n")
    assert read_source(path).classes == ("a", "b")
    path = write(tmp_path / "numbered.csv", "0,1,2\n1,6,8\n0,7,9\n")
    ((x, y, _),) = read_source(path, Reading(label_column="0")).parts
    assert (x.tolist(), y.tolist()) == ([[6, 8], [7, 9]], [1, 0])
    ((x, y, _),) = read_source(write(tmp_path / "bare.csv", "5.5,setosa\n6.5,rosa\n")).parts
    assert (x.tolist(), y.tolist()) == ([[5.5], [6.5]], [1, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,city,label\n1,Rome,0\n2,Oslo,1\n",
            r"number in every .*'city' \('Rome' in row 1",
        ),
        (",a,label\n0,5,1\n1,6,0\n", "index=False.* without one in column 1"),
        ("a,b,label\n1,2,0\n1,,1\n", r"'b' \(empty in row 2\)"),
        ("a,label\n1,x\n2,\n", "label in every row.* in row 2"),
        ("a,label\n1,x\n2\n", "2 columns in every row.* with 1 in row 2"),
        ("a,label\n", "rows of examples"),
        ("", "rows of examples"),
        ("label\n1\n", "columns of inputs"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_source(write(tmp_path / "t.csv", text))


def test_column_that_is_not_there(tmp_path):
    path = write(tmp_path / "t.csv", "a,species\n1,x\n")
    with pytest.raises(ValueError, match="--label-column .*a, species.*did you mean 'species'"):
        read_source(path, Reading(label_column="specie"))
    path.write_bytes(b"a,label\n1,\xff\n")
    with pytest.raises(ValueError, match="table in UTF-8"):
        read_source(path)


def test_folder_of_images(photos):
    found = read_source(photos)
    ((x, y, _),) = found.parts
    assert (x.shape, found.classes, y.tolist()) == ((3, 4, 6, 3), ("dark", "light"), [0, 0, 1])
    assert x[:, 0, 0, 0].tolist() == [51, 51, 255]
    reading = Reading(pixel_range=(-1.0, 1.0))
    ((x, _, _),) = read_source(photos, reading, input_shape=(2, 2, 1)).parts
    assert x.shape == (3, 2, 2, 1)
    np.testing.assert_allclose(x[:, 0, 0, 0], [-0.6, -0.6, 1.0], rtol=1e-5)
    # One folder for each part, and classes that must be those of the training data.
    parts = photos.parent / "parts"
    for name in ("train", "val"):
        (parts / name).mkdir(parents=True)
    (photos / "light").rename(parts / "val" / "light")
    (photos / "dark").rename(parts / "train" / "dark")
    with pytest.raises(ValueError, match="classes 'dark', those of the training .*'light'"):
        read_source(parts)
    (parts / "val" / "light").rename(parts / "val" / "dark")
    assert [len(y) for _, y, _ in read_source(parts).parts] == [2, 1]
    (parts / "val").rename(parts / "test")
    _, validation, test = read_source(parts).parts
    assert validation is None and len(test[1]) == 1


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_images_of_16_bits(photos, channels):
    from PIL import Image

    for path in photos.rglob("*.png"):
        Image.fromarray(np.full((4, 6), 51 * 257, "uint16")).save(path)
    shape = channels and (None, None, channels)
    ((x, _, _),) = read_source(photos, input_shape=shape).parts
    assert x.shape == (3, 4, 6, channels or 1)
    assert (x == 51).all()


def test_suffixes_are_those_of_keras():
    from keras.src.utils.image_dataset_utils import ALLOWLIST_FORMATS

    assert set(SUFFIXES) == set(ALLOWLIST_FORMATS)


def test_folders_that_are_refused(photos):
    from PIL import Image

    with pytest.raises(ValueError, match=r"inputs have the shape \(4,\)"):
        read_source(photos, input_shape=(4,))
    Image.new("RGB", (3, 3)).save(photos / "light" / "9.png")
    with pytest.raises(ValueError, match=r"images of one size.*4x6 pixels.*9\.png' of 3x3"):
        read_source(photos)
    assert read_source(photos, Reading(image_size=5)).parts[0][0].shape == (4, 5, 5, 3)
    (photos / "light" / "9.png").write_text("no image")
    with pytest.raises(ValueError, match=r"images that can be read.*9\.png"):
        read_source(photos)
    for path in photos.rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="no images in dark, light"):
        read_source(photos)


def test_numpy_files(tmp_path):
    x = np.ones((3, 2))
    np.savez(tmp_path / "named.npz", x=x, y=np.array(["b", "a", "b"]))
    found = read_source(tmp_path / "named.npz")
    assert (found.parts[0][1].tolist(), found.classes) == ([1, 0, 1], ("a", "b"))
    np.savez(tmp_path / "inputs.npz", left=x, right=x)
    ((inputs, y, _),) = read_source(tmp_path / "inputs.npz", needs_labels=False).parts
    assert set(inputs) == {"left", "right"} and y is None
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match="must have labels.*x.npy', which has inputs alone"):
        read_source(tmp_path / "x.npy")
    np.savez(tmp_path / "images.npz", images=x, y=np.zeros(3))
    with pytest.raises(ValueError, match=r"the arrays x and y.*\['images', 'y'\]"):
        read_source(tmp_path / "images.npz")


FUNCTIONS = """
import keras
import numpy as np

x, y = np.ones((4, 2)), [0, 1, 0, 1]

class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2
    def __getitem__(self, i):
        return x[:2] * i, np.array(y[:2])

def arrays(): return x, y
def keras_style(): return (x, y), (x[:1], y[:1])
def batches(): return Batches(), Batches(), (x[:1], y[:1])
def inputs(): return x
def nothing(): return None
def single(): return iter([(x[0], np.int64(0))]), (x, y)
def broken(): raise KeyError("oops")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Name of a module in the current folder, with functions that return data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = "functions_of_a_test"
    write(tmp_path / f"{name}.py", FUNCTIONS)
    yield name
    sys.modules.pop(name, None)


def test_functions(module):
    sizes = {
        name: [len(y) for _, y, _ in read_source(f"{module}:{name}").parts]
        for name in ("arrays", "keras_style", "batches")
    }
    assert sizes == {"arrays": [4], "keras_style": [4, 1], "batches": [4, 4, 1]}
    x, y, _ = read_source(f"{module}:batches").parts[0]
    assert (x[:, 0].tolist(), y.tolist()) == ([0, 0, 1, 1], [0, 1, 0, 1])
    assert read_source(f"{module}:inputs", needs_labels=False).parts[0][0].shape == (4, 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}:missing", "has no function 'missing'"),
        ("{}:inputs", "must have labels"),
        ("{}:single", r"have batches, as of `dataset.batch\(32\)`"),
        ("{}:nothing", "which returns NoneType"),
        ("{}:broken", "has failed: KeyError: 'oops'"),
        ("no_such_module_of_a_test:load", "can be imported.*No module named"),
    ],
)
def test_functions_that_are_refused(module, name, message):
    with pytest.raises(ValueError, match=message):
        read_source(name.format(module))


def test_what_is_not_there(tmp_path):
    write(tmp_path / "train.npz", "")
    with pytest.raises(OSError, match="did you mean .*train.npz"):
        read_source(tmp_path / "trian.npz")
    with pytest.raises(ValueError, match=r"DATA must be one of: \.npz .*notes\.txt"):
        read_source(write(tmp_path / "notes.txt", "hello"))


def test_tensorflow_datasets(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(OSError, match="knows; .*Received: 'minst'; did you mean 'mnist'"):
        read_source("tfds:minst", Reading(data_dir=str(tmp_path)))
    with pytest.raises(OSError, match=f"holds 'mnist'.*--download.*Received: {tmp_path}"):
        read_source("tfds:mnist", Reading(data_dir=str(tmp_path)))


class Image:
    """Stands for the feature of TensorFlow Datasets."""


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (None, (3, 4, 4, 1)),
        ((2, 2, 1), (3, 2, 2, 1)),
        ((None, None, 1), (3, 8, 8, 1)),
        ((16,), (3, 8, 8, 1)),
    ],
)
def test_images_of_tensorflow_datasets(monkeypatch, shape, expected):
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("tensorflow_datasets")

    def as_dataset(split, as_supervised):
        images = np.full((3 if split == "train" else 1, 4, 4, 1), 51, "uint8")
        return tf.data.Dataset.from_tensor_slices((images, np.arange(len(images)) % 2))

    features = {"image": Image(), "label": types.SimpleNamespace(names=["cat", "dog"])}
    info = types.SimpleNamespace(
        supervised_keys=("image", "label"), splits=["train", "test"], features=features
    )
    builder = types.SimpleNamespace(info=info, as_dataset=as_dataset)
    monkeypatch.setattr(tfds_reader, "open_builder", lambda *_: builder)
    size = None if shape is None else 8
    reading = Reading(pixel_range=(0.0, 1.0), image_size=size)
    found = read_source("tfds:pets", reading, input_shape=shape)
    (x, y, _), validation, (_, other, _) = found.parts
    assert validation is None
    assert (x.shape, y.tolist(), other.tolist()) == (expected, [0, 1, 0], [0])
    np.testing.assert_allclose(x, 0.2, rtol=1e-6)
    assert found.classes == ("cat", "dog")
    info.supervised_keys = None
    with pytest.raises(ValueError, match="'tfds:pets' with the supervised keys None"):
        read_source("tfds:pets")
