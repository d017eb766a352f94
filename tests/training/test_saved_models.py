"""Model files: layers and weights in one, and a model from them without running code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_network import compiled, points, same, small

import gpucnn
from gpucnn import Sequential, initializers, layers, zoo
from gpucnn.backends import Backend
from gpucnn.errors import CheckpointError
from gpucnn.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ZeroPadding2D
from gpucnn.model.architecture import describe, known_classes, rebuild
from gpucnn.model.saving import read_model
from gpucnn.training.weights import read_weights, save_weights


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 8, 7, 2)).astype(np.float32)


def everything() -> Sequential:
    """A model that uses many arguments, positional and named, of several layers."""
    gpucnn.seed(3)
    return Sequential(
        [
            ZeroPadding2D(((1, 0), (2, 1)), input_shape=(8, 7, 2)),
            Conv2D(np.int64(4), (3, 2), (1, 2), "same", dilation_rate=1, groups=2, activation="tanh", use_bias=False),
            layers.AveragePooling2D(2, strides=1, padding=((0, 1), (1, 0)), name="blurred"),
            Sequential([Conv2D(3, 1, kernel_initializer=initializers.he_normal), Activation("relu")]),
            MaxPool2D(2),
            Flatten(),
            Dropout(0.25),
            Dense(
                5, "softmax", kernel_initializer=initializers.Orthogonal(2), bias_initializer=initializers.Constant(0.1)
            ),
        ],
        name="everything",
    )


def test_a_saved_model_computes_the_same(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = everything()
    model.save(path, {"note": [1, 2]})
    loaded, metadata = read_model(path)
    assert metadata == {"note": [1, 2]} and loaded.backend is backend and loaded.name == "everything"
    assert same(loaded.state_dict(), model.state_dict())
    np.testing.assert_array_equal(loaded.predict(images()), model.predict(images()))
    assert describe(loaded) == describe(model)
    assert [layer.label for layer in loaded.layers_inside()] == [layer.label for layer in model.layers_inside()]
    again = gpucnn.load_model(path)
    again.save(path, {"note": [1, 2]})
    assert read_weights(path)[1] == read_weights(path)[1] and same(read_weights(path)[0], model.state_dict())


@pytest.mark.parametrize("name", sorted(known_classes()))
def test_every_layer_can_be_named_by_a_file(name: str) -> None:
    assert known_classes()[name].__module__.startswith("gpucnn.")


def test_models_of_the_zoo_are_saved(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"):
        for make in (getattr(zoo, name) for name in zoo.__all__):
            model = make()
            model.save(tmp_path / "m")
            assert same(gpucnn.load_model(tmp_path / "m").state_dict(), model.state_dict())


def test_a_loaded_model_trains_on_as_the_saved_one(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"):
        model = compiled()
        model.save(tmp_path / "m")
        loaded = gpucnn.load_model(tmp_path / "m")
        assert isinstance(loaded, Sequential)
        loaded.compile(gpucnn.optimizers.SGD(0.1, 0.9))
        for other in (model, loaded):
            other.fit(*points(), verbose=0, shuffle=False)
        assert same(model.state_dict(), loaded.state_dict())


def test_frozen_parameters_stay_frozen_and_dtypes_float64(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"):
        model = small(dtype="float64")
        model.layers[0].trainable = False
        model.layers[1].bias.trainable = False
        model.save(tmp_path / "m")
        loaded = gpucnn.load_model(tmp_path / "m")
    assert [p.trainable for p in loaded.parameters()] == [False, False, True, False]
    assert not loaded.layers[0].trainable and loaded.layers[1].trainable and loaded.dtype == "float64"


def test_a_model_built_by_its_first_input_and_renumbered_names(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"):
        spare = small()
        model = Sequential([spare.layers[1], Dense(2)])  # dense_2 of another model, then dense_1
        model(np.zeros((1, 5), np.float32))
        model.save(tmp_path / "m")
        loaded = gpucnn.load_model(tmp_path / "m")
        assert list(loaded.state_dict()) == list(model.state_dict()) and loaded.layers[1].numbered


def test_metadata_cannot_take_the_place_of_the_layers(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="^save: metadata must not have 'architecture', under which the file has"):
        small().save(path, {"architecture": "mine"})
    assert not path.exists()


def test_load_weights_reads_a_model_file(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"):
        model, other = small(seed=1), small(seed=2)
        model.save(tmp_path / "m")
        gpucnn.load_weights(other, tmp_path / "m")
        assert same(other.state_dict(), model.state_dict())


# -- refusals -------------------------------------------------------------------------------------------------------
class Own(Dense):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sequential([Own(2, input_shape=(3,))]), "^own_1: Own is not one of gpucnn's layers, so a file cannot"),
        (
            lambda: Sequential([Dense(2, input_shape=(3,), kernel_initializer=lambda rng, shape: np.zeros(shape))]),
            "^Dense: kernel_initializer is function .* which a file cannot hold; give a name$",
        ),
    ],
)
def test_what_a_file_cannot_hold_is_said(tmp_path: Path, make: Any, message: str) -> None:
    with gpucnn.use_backend("numpy"):
        model = make()
        with pytest.raises(CheckpointError, match=message):
            model.save(tmp_path / "m")
        assert not list(tmp_path.iterdir())
        save_weights(model, tmp_path / "m")
        with pytest.raises(
            CheckpointError, match="holds weights without layers; build the model and use load_weights$"
        ):
            gpucnn.load_model(tmp_path / "m")


def test_an_unbuilt_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^save: the model is not built"):
        Sequential([Dense(2)]).save(tmp_path / "m")


DENSE = {"class": "Dense", "arguments": {"units": 3, "input_shape": [4]}}


def sequential(*inside: Any, **changes: Any) -> dict[str, Any]:
    made = {"class": "Sequential", "arguments": {"layers": [{"layer": layer} for layer in inside]}}
    return {**made, "sample_shape": [4], "frozen": [], **changes}


def initialized(given: dict[str, Any]) -> dict[str, Any]:
    arguments = {"units": 1, "kernel_initializer": {"initializer": given}}
    return sequential({"class": "Dense", "arguments": arguments})


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ([], r"a layer needs a class and arguments, got \[\]$"),
        (sequential({"class": "os.system", "arguments": {}}), "unknown layer class 'os.system'; this gpucnn knows "),
        (sequential({"class": "Layer", "arguments": {}}), "unknown layer class 'Layer'"),
        (sequential({"class": ["Dense"], "arguments": {}}), r"unknown layer class \['Dense'\]"),
        (sequential({"class": "Dense"}), "a layer needs a class and arguments, got {'class': 'Dense'}$"),
        (sequential({"class": "Dense", "arguments": {}}), "Dense cannot be made from the file: .*'units'"),
        (sequential({"class": "Dense", "arguments": {"units": -1}}), "Dense cannot be made from the file: Dense: un"),
        (sequential({"class": "Dense", "arguments": {"units": {"a": 1}}}), "neither a value nor a layer: {'a': 1}$"),
        (initialized({"class": "Path"}), "an argument of a layer: unknown initializer class 'Path'; known: Zeros"),
        (initialized({"class": ["Ones"]}), r"unknown initializer class \['Ones'\]"),
        (initialized({"class": "Orthogonal", "gain": -1}), "an argument of a layer: Orthogonal: gain must be a number"),
        (initialized({"class": "Ones", "value": 2}), "an argument of a layer: initializer Ones: .*'value'"),
        ({**DENSE, "sample_shape": [4], "frozen": []}, "Dense is no model$"),
        (sequential(DENSE), "dense_1.weight is float32 .*, expected"),
        (sequential(DENSE, sample_shape="wide"), "Dense|dense"),
        ({**sequential({"class": "Dense", "arguments": {"units": 3}}), "sample_shape": [-1]}, "input_shape must be"),
        (sequential(DENSE, frozen=7), "'int' object is not iterable$|expected"),
    ],
)  # fmt: skip
def test_f6_f7_descriptions_that_make_no_model(tmp_path: Path, architecture: Any, message: str) -> None:
    path = tmp_path / "m.safetensors"
    with gpucnn.use_backend("numpy"):
        save_weights(small(), path, {"architecture": architecture})
        with pytest.raises(
            CheckpointError, match=rf"^no model can be made from .*m\.safetensors: .*{message}"
        ) as caught:
            gpucnn.load_model(path)
    assert "\n" not in str(caught.value)


def test_f6_layers_within_layers_without_end(tmp_path: Path) -> None:
    nested: Any = DENSE
    for _ in range(150):
        nested = {"class": "Sequential", "arguments": {"layers": [{"layer": nested}]}}
    path = tmp_path / "m.safetensors"
    with gpucnn.use_backend("numpy"):
        save_weights(small(), path, {"architecture": {**nested, "sample_shape": [4], "frozen": []}})
        with pytest.raises(CheckpointError, match="cannot be made|too deeply|cannot read|can be made"):
            gpucnn.load_model(path)


def test_descriptions_are_json_of_what_was_given() -> None:
    layer = Conv2D(8, (3, 3), activation="relu")
    found = json.loads(json.dumps(describe(layer)))
    assert found == {
        "class": "Conv2D",
        "arguments": {"activation": "relu", "filters": 8, "kernel_size": [3, 3], "name": None, "trainable": True},
        "numbered": False,
    }
    again = rebuild(found)
    assert isinstance(again, Conv2D) and (again.filters, again.kernel_size, again.activation) == (8, (3, 3), "relu")
