"""Model: layers, a compiled training configuration, and fit, evaluate, predict, summary."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from gpucnn import dtypes, losses, optimizers
from gpucnn.arguments import integer
from gpucnn.autograd import Tensor, depend_on
from gpucnn.callbacks import Callback
from gpucnn.layers.layer import Shape
from gpucnn.metrics import Metric
from gpucnn.metrics import get as get_metrics
from gpucnn.mixed_precision import PRECISIONS, MixedPrecision
from gpucnn.model import fitting
from gpucnn.model.assembly import Assembly
from gpucnn.model.data import batch_of, checked_data, checked_samples
from gpucnn.model.data_format import outward
from gpucnn.training import History, loop
from gpucnn.training import sample_weights as weights


class Model(Assembly):
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
        super().__init__(name=name, dtype=dtype, data_format=data_format)
        self.epochs_done = 0
        """Counts the epochs that `fit` has run."""
        self.stop_training = False
        self._compilations = 0
        self._prepared = False
        self._optimizer: optimizers.Optimizer | None = None
        self._loss: losses.Loss | None = None
        self.metrics: tuple[Metric, ...] = ()
        """What is measured beside the loss."""

    def _pack(self) -> None:
        """Bind the optimizer too."""
        super()._pack()
        parameters = self.parameters()
        if self._optimizer is not None and parameters:
            self._optimizer.bind(parameters)
        self._prepared = False

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
                of float64; the model is compiled as it was then.
        """
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f"compile: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        if precision not in (None, "float32") and self.dtype != "float32":
            raise ValueError(f"compile: precision {precision} is for models of dtype float32, this one is {self.dtype}")
        chosen, stepping = losses.get(loss), optimizers.get(optimizer)
        self.metrics = get_metrics(metrics, chosen)
        self._compilations += 1
        self._loss, self._optimizer = chosen, stepping
        kind = PRECISIONS[precision or "float32"]
        self._precision, self._mixed = precision, None if kind is None else MixedPrecision(kind, self.backend)
        if self.built:
            self._pack()

    def train_step(
        self, x: Any, y: Any, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None
    ) -> Tensor:
        """Take one step on a batch and return its loss; launches and nothing else when x, y and weights are tensors.

        Before the first step after `compile` its kernels are compiled, all at once; the layers run once more for it.

        Args:
            sample_weight, class_weight: as in `fit`.
        """
        inputs, target = batch_of(self, x, y, "train_step")
        weight = weights.of_batch(sample_weight, class_weight, target, inputs)
        step = partial(loop.train_on, self, inputs, target, weight=weight)
        if not self._prepared:
            self._prepared = True
            if not self.backend.capturing and not any(p.pending for p in self.parameters()):
                loop.compile_ahead(self, step)
        return step()

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
            ValueError: data, labels or sizes are wrong, or a last batch of one sample would give a BatchNormalization
                one value a channel; nothing was changed then.
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

    def save(self, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
        """Write the model to a file, layers and weights, that `gpucnn.load_model` makes it from again.

        Args:
            path: file to write; an existing one is replaced only when the new one is complete.
            metadata: what else to keep, as JSON; under "architecture" the file has the layers.

        Raises:
            ValueError: the model is not built, or the metadata has an "architecture" of its own.
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
