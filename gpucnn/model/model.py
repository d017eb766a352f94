"""Model: layers, a compiled training configuration, and fit, evaluate, predict, summary."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gpucnn import dtypes, losses, optimizers
from gpucnn.arguments import integer
from gpucnn.autograd import Tensor, as_tensor, depend_on, no_grad
from gpucnn.backends import Backend, get_backend
from gpucnn.callbacks import Callback
from gpucnn.generator import Generator, spawn
from gpucnn.layers import Layer
from gpucnn.layers.layer import RandomLayer, Shape, Surroundings, surrounded, surroundings
from gpucnn.metrics import Metric
from gpucnn.metrics import get as get_metrics
from gpucnn.mixed_precision import PRECISIONS, MixedPrecision
from gpucnn.model import fitting, naming
from gpucnn.model.data import batch_of, checked_data, checked_samples
from gpucnn.model.data_format import check_data_format, inward, outward, require_shape
from gpucnn.parameters import ParameterBuffer, pack
from gpucnn.precision import use_precision
from gpucnn.training import History, loop
from gpucnn.training import sample_weights as weights


class Model(Layer):
    """A network of layers. Subclass it with a `call(self, x)`, or use Sequential.

    A model is built on its first input: parameters are drawn on the host from the model's own generator (see
    `gpucnn.seed`), packed into one buffer per dtype, and named `<layer>.<parameter>`. It keeps whether it is training:
    `model(x)` computes as set by `train()` and `eval()` (eval at first); `fit` and `evaluate` choose for themselves.

    Args:
        name: for summaries.
        dtype: of the parameters: "float32" or "float64".
        data_format: of arrays given and returned, "channels_last" (N, H, W, C) or "channels_first" (N, C, H, W).
            Tensors, layers' `input_shape` and weights always have channels last.
    """

    def __init__(self, *, name: str | None = None, dtype: str = "float32", data_format: str = "channels_last") -> None:
        super().__init__(name=name)
        if dtype not in ("float32", "float64"):
            raise ValueError(f"model: dtype must be float32 or float64, got {dtype!r}")
        self.dtype = dtype
        self.data_format = check_data_format(data_format)
        self.training = False
        self._generator: Generator | None = None
        self._backend: Backend | None = None
        self._buffers: tuple[ParameterBuffer, ...] = ()
        self._sample_shape: Shape | None = None
        self._output_shape: Shape | None = None
        self._stochastic = False
        self.epochs_done = 0
        """Counts the epochs that `fit` has run."""
        self.stop_training = False
        self._compilations = 0
        self._optimizer: optimizers.Optimizer | None = None
        self._loss: losses.Loss | None = None
        self.metrics: tuple[Metric, ...] = ()
        """What is measured beside the loss."""
        self._precision: str | None = None
        self._mixed: MixedPrecision | None = None

    # -- building -----------------------------------------------------------------------------------------------------
    @property
    def backend(self) -> Backend:
        """Where the model lives: the backend in use when it was built, or what `to` named."""
        return self._backend or get_backend()

    @property
    def generator(self) -> Generator:
        """The model's random numbers, spawned from the process's seed on first use."""
        if self._generator is None:
            self._generator = spawn()
        return self._generator

    def build(self, input_shape: Shape) -> None:
        """Make all parameters for samples of a shape without batch axis.

        Raises:
            ValueError: a layer does not fit the one before it.
        """
        around = surroundings()
        self._backend = around.backend if around else self.backend
        self._sample_shape = tuple(integer(n, "model: input_shape", 1) for n in input_shape)
        naming.name_layers([layer for layer in self.layers_inside() if layer is not self])
        with surrounded(around or self._lend(training=False)):
            self._output_shape = self.trace(self._sample_shape)
        self._finish_build()

    def trace(self, input_shape: Shape) -> Shape:
        """Build every layer and return the output's shape; by default by running one sample of zeros."""
        with no_grad():
            x = Tensor(self.backend.zeros((1, *input_shape), self.dtype), self.backend)
            return tuple(self.call(x).shape[1:])

    def _finish_build(self) -> None:
        naming.name_layers([layer for layer in self.layers_inside() if layer is not self])
        self.built = True
        for layer in self.layers_inside():
            for attribute, parameter in layer.own_parameters().items():
                parameter.name = f"{layer.name}.{attribute}"
        random_layers = [layer for layer in self.layers_inside() if isinstance(layer, RandomLayer)]
        for stream, layer in enumerate(random_layers):
            layer.stream = stream
        self._stochastic = any(layer.draws for layer in random_layers)
        for layer in self.layers_inside():
            if isinstance(layer, Model):
                layer._backend, layer._buffers = self.backend, ()
        self._pack()

    def _pack(self) -> None:
        """Pack the parameters, with 16-bit copies if the precision wants them, and bind the optimizer to them."""
        self._mixed = None if self._mixed is None else self._mixed.on(self.backend)
        for layer in self.layers_inside():
            if isinstance(layer, Model):
                layer._mixed = self._mixed
        parameters = self.parameters()
        for parameter in parameters:
            parameter.mixed = self._mixed
        self._buffers = pack(parameters, self.backend)
        if self._optimizer is not None and parameters:
            self._optimizer.bind(parameters)

    def _lend(self, training: bool) -> Surroundings:
        return Surroundings(self.backend, self.dtype, self.generator, training)

    # -- calling ------------------------------------------------------------------------------------------------------
    def __call__(self, x: Any, *, training: bool | None = None) -> Tensor:
        """Compute the output of a batch.

        Args:
            x: (N, …), of the model's dtype and backend; arrays, in the model's data format, are wrapped, uint8 is cast.
            training: whether dropout drops; None for the model's own state, or the enclosing model's.

        Raises:
            ValueError: samples of another shape than the model was built for.
            TypeError: another dtype.
            DeviceError: a tensor of another backend.
        """
        around = surroundings()
        if around is not None:
            with surrounded(around if training is None else replace(around, training=training)):
                return super().__call__(x)
        t = as_tensor(inward(x, self.data_format), self.backend, what="model: x")
        if not t.shape:
            raise ValueError("model: x must have a batch axis, got a scalar")
        if t.dtype != self.dtype:
            raise TypeError(f"model: x must be {self.dtype}, got {t.dtype}; convert it, dtypes are never mixed")
        self.ensure_built(tuple(t.shape[1:]))
        require_shape(t.shape[1:], self._sample_shape, self.data_format, "model", tensor=isinstance(x, Tensor))
        mode = self.training if training is None else training
        if mode and self._stochastic:
            self.generator.advance(self.backend)
        with surrounded(self._lend(mode)):
            return self._compute(t)

    def _compute(self, x: Tensor) -> Tensor:
        """Call in the compiled precision."""
        depend_on(self)
        if self._mixed is not None:
            with self._mixed.lend():
                return self._mixed.leave(self.call(self._mixed.enter(x)))
        if self._precision is None:
            return self.call(x)
        with use_precision(self._precision):
            return self.call(x)

    def train(self) -> Model:
        """Compute as in training from now on."""
        self.training = True
        return self

    def eval(self) -> Model:
        """Compute as in inference from now on."""
        self.training = False
        return self

    # -- parameters ---------------------------------------------------------------------------------------------------
    def _require_built(self, what: str) -> None:
        if not self.built:
            raise ValueError(
                f"{what}: the model is not built; give the first layer input_shape, or call build(input_shape)"
            )

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return host copies of all parameters by name."""
        self._require_built("state_dict")
        return {p.name: p.numpy() for p in self.parameters()}

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Copy parameters in by name.

        Raises:
            ValueError: names, shapes or dtypes differ; the differences are listed and nothing is changed.
        """
        self._require_built("load_state_dict")
        mine = {p.name: p for p in self.parameters()}
        wrong = [f"missing {name}" for name in mine if name not in values]
        wrong += [f"unexpected {name}" for name in values if name not in mine]
        for name in mine.keys() & values.keys():
            given = np.asarray(values[name])
            if given.shape != mine[name].shape or given.dtype.name != mine[name].dtype:
                wrong.append(
                    f"{name} is {given.dtype.name} {given.shape}, expected {mine[name].dtype} {mine[name].shape}"
                )
        if wrong:
            raise ValueError("; ".join(sorted(wrong)))
        for name, parameter in mine.items():
            parameter.assign(values[name])

    def to(self, backend: str | Backend) -> Model:
        """Move the model to a backend, with its optimizer's state; captured steps must be captured again."""
        target = get_backend(backend)
        if target is self._backend:
            return self
        step = self.generator.step(self.backend) if self.built else 0
        self._backend = target
        if self.built:
            self._finish_build()
            self.generator.set_step(target, step)
        return self

    # -- compiling and training ---------------------------------------------------------------------------------------
    @property
    def configuration(self) -> object:
        """Also the number of calls of `compile`."""
        return super().configuration, self._compilations

    @property
    def loss(self) -> losses.Loss:
        """The compiled loss; ValueError before compile."""
        depend_on(self)
        if self._loss is None:
            raise ValueError("model: call compile(optimizer=…, loss=…) first")
        return self._loss

    @property
    def optimizer(self) -> optimizers.Optimizer:
        """The compiled optimizer; ValueError before compile."""
        depend_on(self)
        if self._optimizer is None:
            raise ValueError("model: call compile(optimizer=…, loss=…) first")
        return self._optimizer

    @property
    def precision(self) -> str | None:
        """The precision that `compile` was given, or None."""
        return self._precision

    def compile(
        self,
        optimizer: str | optimizers.Optimizer = "adam",
        loss: str | losses.Loss = "sparse_categorical_crossentropy",
        metrics: Sequence[str | Metric] | str | Metric = (),
        *,
        precision: str | None = None,
    ) -> None:
        """Choose how to train, and how precisely to compute; steps captured before must be captured again.

        In mixed precision parameters and optimizer moments stay float32, and so do the loss, softmax layers, the
        outputs and files; activations and their gradients are 16-bit numbers, as are the copies of the parameters that
        one launch a step makes. All sums are float32. With float16 the gradients are scaled inside the model, and a
        step with one that is not finite changes nothing; see `MixedPrecision`.

        Args:
            optimizer: name or Optimizer.
            loss: name or Loss.
            metrics: names or Metrics: "accuracy" ("acc"), "top_5_accuracy" with any number, "confusion_matrix"; see
                `gpucnn.metrics.get`.
            precision: "float32", "tf32" (as `gpucnn.use_precision`), "mixed_bfloat16" or "mixed_float16"; None follows
                `gpucnn.use_precision`, whose default is float32. Another one than before makes captured steps void. A
                model inside another one computes as the outer one does.

        Raises:
            ValueError: unknown names, a metric that the loss cannot have, or a precision other than float32 for a model
                of float64.
        """
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f"compile: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        if precision not in (None, "float32") and self.dtype != "float32":
            raise ValueError(f"compile: precision {precision} is for models of dtype float32, this one is {self.dtype}")
        chosen = losses.get(loss)
        self.metrics = get_metrics(metrics, chosen)
        self._compilations += 1
        self._loss = chosen
        self._optimizer = optimizers.get(optimizer)
        kind = PRECISIONS[precision or "float32"]
        self._precision, self._mixed = precision, None if kind is None else MixedPrecision(kind, self.backend)
        if self.built:
            self._pack()

    def train_step(
        self, x: Any, y: Any, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None
    ) -> Tensor:
        """Take one step on a batch and return its loss; launches and nothing else when x, y and weights are tensors.

        Args:
            sample_weight, class_weight: as in `fit`.
        """
        inputs, target = batch_of(self, x, y, "train_step")
        weight = weights.of_batch(sample_weight, class_weight, target, inputs)
        return loop.train_on(self, inputs, target, weight=weight)

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: int = 1,
        *,
        callbacks: Sequence[Callback] = (),
        validation_split: float = 0.0,
        validation_data: tuple[Any, Any] | tuple[Any, Any, Any] | None = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int | None = None,
        limit_batches: int | None = None,
        overfit_batches: int | None = None,
    ) -> History:
        """Train.

        The data goes to the backend once; each step gathers its batch there. What would take more than half of the
        device's free memory stays on the host, and the device is given a part at a time, with the same bits; validation
        data is placed after it by the same rule. On backends that capture, steps run as
        graphs of as many steps as last 0.25 s. Loss and accuracy are read once an epoch. Ctrl-C waits for the end of
        the launch under way, so the model is left at the end of a step; a second one does not wait.

        Args:
            x: (N, …) samples in the model's data format, floating or uint8 (cast, not rescaled).
            y: (N,) targets as the loss wants them.
            batch_size: samples a step, at least 1; the last batch of an epoch may be smaller.
            epochs: at least 0.
            verbose: 0 nothing, 1 progress bar and a row an epoch, 2 rows only.
            callbacks: of `gpucnn.callbacks`, called in this order.
            validation_split: the share of the samples, at least 0 and below 1, that is taken from their end before any
                shuffling and evaluated after every epoch.
            validation_data: (x, y) or (x, y, sample_weight), evaluated after every epoch.
            shuffle: visit the samples in another order each epoch, drawn from the model's seed and the epoch's number.
            class_weight: {class: factor} of the samples of each class, at least 0; 1 for classes that are not named.
                With one-hot targets the class is the largest one.
            sample_weight: (N,) factors, at least 0; multiplied with those of the classes. A batch's loss is the sum of
                weight * loss over its samples, divided by their number and not by the sum of the weights (Keras's
                "sum_over_batch_size"). Metrics are not weighted.
            initial_epoch: the number of the first epoch, `epochs` then being where the last one ends, as in Keras. None
                goes on counting after an earlier fit and runs `epochs` more.
            limit_batches: batches of an epoch and of a validation at most, at least 1, to try a program out.
            overfit_batches: train on this many batches alone, at least 1, the first ones, in their order: a model that
                cannot learn a few by heart has an error.

        Returns:
            History whose `history` holds a list for each of loss, acc (where the loss has an accuracy), the metrics,
            the same with val_ in front, seconds and images_per_second.

        Raises:
            ValueError: data, labels or sizes are wrong; nothing was changed then.
            TypeError: something else than a Callback among the callbacks; nothing was changed then.
            Interrupted: a signal ended the training. It is a KeyboardInterrupt.
        """
        return fitting.fit(
            self, x, y, batch_size, epochs, verbose, callbacks=callbacks, validation_split=validation_split,
            validation_data=validation_data, shuffle=shuffle, class_weight=class_weight, sample_weight=sample_weight,
            initial_epoch=initial_epoch, limit_batches=limit_batches, overfit_batches=overfit_batches,
        )  # fmt: skip

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        *,
        sample_weight: Any = None,
        metrics: Sequence[str | Metric] | str | Metric = (),
        return_dict: bool = False,
    ) -> Any:
        """Compute the loss and the compiled metrics over a data set; nothing changes.

        Args:
            sample_weight: (N,) factors of the samples' losses, as in `fit`.
            metrics: to be measured too, this time, after the compiled ones; as in `compile`, and none of those.

        Returns:
            The loss, or [loss, each metric]; with return_dict {"loss", "acc", each metric by name, "count"}, without
            acc where the loss has no accuracy.
        """
        samples, labels = checked_data(self, x, y, "evaluate")
        size = integer(batch_size, "evaluate: batch_size", 1)
        weight = weights.sample_weights(sample_weight, None, y, len(samples), self.dtype, "evaluate")
        measured = get_metrics((*self.metrics, *get_metrics(metrics, self.loss)), self.loss)
        found = loop.evaluate(self, samples, labels, size, weight, metrics=measured)
        if return_dict:
            return found
        return [found["loss"], *(found[m.name] for m in measured)] if measured else found["loss"]

    def predict(self, x: Any, batch_size: int = 32) -> np.ndarray:
        """Return the outputs for samples (N, …) as a host array (N, …), both in the model's data format."""
        samples = checked_samples(self, x, "predict")
        size = integer(batch_size, "predict: batch_size", 1)
        if len(samples):
            return outward(loop.predict(self, samples, size), self.data_format)
        return outward(np.zeros((0, *(self._output_shape or ())), dtypes.numpy_dtype(self.dtype)), self.data_format)

    def sample_shapes(self, what: str) -> tuple[Shape, Shape]:
        """Return the shapes of a sample and of its output; ValueError, named by `what`, when the model is not built."""
        self._require_built(what)
        return self._sample_shape or (), self._output_shape or ()

    def save(self, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
        """Write the model to a file, layers and weights, that `gpucnn.load_model` makes it from again.

        Args:
            path: file to write; an existing one is replaced only when the new one is complete.
            metadata: what else to keep, as JSON.

        Raises:
            ValueError: the model is not built.
            CheckpointError: a layer is not one of gpucnn's own, has an argument that a file cannot hold, or the file
                cannot be written.
        """
        from gpucnn.model.saving import save_model  # which makes models

        save_model(self, path, metadata)

    # -- looking ------------------------------------------------------------------------------------------------------
    def rows(self) -> Iterable[tuple[str, str, Shape | None, int]]:
        """Yield (name, kind, output shape or None, parameters) of every layer, for `summary`."""
        for layer in self.children():
            yield layer.label, type(layer).__name__, None, sum(p.size for p in layer.parameters())

    def summary(self, print_fn: Any = print, *, batch_size: int | None = None) -> None:
        """Print a table of layers: output shapes, parameters, and for one sample multiplications (MACs), bytes of the
        output, and how much of the input one output sees; see `layer_costs`.

        Args:
            print_fn: takes each line.
            batch_size: samples of a training step, whose memory on a GPU is told too (see `step_memory`); None for not.

        Raises:
            ValueError: the model is not built; or batch_size is given and it is not compiled.
        """
        from gpucnn.model import costs, memory, summary  # which run a model

        title, layers = self.name or type(self).__name__, costs.layer_costs(self)
        for line in summary.table(title, layers, self.parameters(), self.data_format):
            print_fn(line)
        if batch_size is not None:
            for line in memory.step_memory(self, batch_size).lines():
                print_fn(line)
