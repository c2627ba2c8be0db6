"""Goes through the networks and precisions of a compression, and stops early on hopeless ones."""

import dataclasses
import math

from tf_lottery.analysis._flops import flops
from tf_lottery.compression.files import CompressedFile, FileMaker, file_accuracy
from tf_lottery.compression.grid import DENSE, Network, least_bytes
from tf_lottery.compression.networks import load_network, make_network
from tf_lottery.compression.task import predict
from tf_lottery.export.errors import ExportError
from tf_lottery.export.making import Processes
from tf_lottery.export.verification import latencies
from tf_lottery.layers.kernels import find_kernels


class Search:
    """Tries networks and precisions, from the least sparse on.

    Files whose weights alone exceed the budget are not made. Every structure is followed until its
    accuracy is hopeless: a sparser network would be worse. With fine-tuning, the networks that are
    not accurate enough are trained, until one is hopeless too. Between two sparsities, the one that
    uses up a budget of bytes is tried too. If no file meets what is asked, the nearest ones are
    made. What cannot be made is noted as a problem, and the search goes on.

    Args:
        task: `Task`.
        record: `Record`, whose networks and files are not made again.
        progress: `Progress`.
    """

    def __init__(self, task, record, progress):
        self.task, self.record, self.progress = task, record, progress
        self._shapes = [tuple(k.shape) for k in find_kernels(task.model, frozen=True).kernels]
        self._maker, self._processes = (None, None), None

    def run(self):
        """Makes and measures all networks and files."""
        with Processes() as self._processes:
            self._search()

    def _search(self):
        self._try(Network(DENSE))
        for structure in self.task.grid.structures:
            for finetuned in self._rounds:
                self._walk(self.task.grid.networks(structure, finetuned))
                self._use_up_budget(structure, finetuned)
        if not any(self._fits(file) for file in self.record.files.values()):
            for structure in self.task.grid.structures:
                self._make_nearest(structure)
            dense = Network(DENSE)
            if not self.record.files and self._measured_accuracy(dense) is not None:
                self._try_smallest([dense])
        self._time_together()

    @property
    def _rounds(self):
        return (False, True) if self.task.finetune else (False,)

    def _fits(self, file):
        is_accurate = file.accuracy >= self.task.least_accuracy
        return is_accurate and self.task.limits.excess(file) <= 1

    def _walk(self, networks):
        """Tries the networks of a structure until one is hopeless."""
        for i, network in enumerate(networks):
            if network.finetuned and self._is_accurate(network.untrained):
                self.progress.advance(self._steps)
            elif not self._try(network):
                return self.progress.advance(self._steps * (len(networks) - i - 1))

    def _use_up_budget(self, structure, finetuned):
        """Tries the sparsity between those of the grid at which a file just meets the bytes.

        The size is taken to be in proportion to the weights that are kept. As other parts of a file
        do not grow with them, it stays within the budget.
        """
        found = [
            file
            for file in self.record.files.values()
            if (file.structure, file.finetuned) == (structure, finetuned)
            # Not a file that was made here before.
            and file.sparsity in self.task.grid.sparsities
            and self._fits(file)
        ]
        limit = self.task.limits.values.get("bytes")
        if not found or limit is None:
            return
        file = min(found, key=lambda file: (file.sparsity, file.num_bytes))
        kept = (1.0 - file.sparsity) * limit / file.num_bytes
        sparsity = math.ceil(100 * (1.0 - kept)) / 100
        less_sparse = max([0.0, *(s for s in self.task.grid.sparsities if s < file.sparsity)])
        if less_sparse < sparsity < file.sparsity:
            network = Network(structure, sparsity, finetuned)
            if self._measured_accuracy(network) is not None and not self._is_hopeless(network):
                self._try_file(network, file.precision)

    def _is_accurate(self, network):
        return self.record.accuracies.get(network.name, 0.0) >= self.task.least_accuracy

    def _is_hopeless(self, network):
        """Returns whether a network is hopeless, or a less sparse one, so that it was not tried."""
        accuracy = self.record.accuracies.get(network.name)
        if accuracy is None:
            return bool(self._affordable(network))
        return self.task.is_hopeless(accuracy)

    @property
    def _steps(self):
        """How far the progress goes with a network."""
        return 1 + len(self.task.grid.precisions)

    def _affordable(self, network):
        """Returns the precisions in which the weights of a network do not exceed the budget."""
        limit = self.task.limits.values.get("bytes")
        sizes = self._sizes(network)
        return [p for p, size in sizes.items() if limit is None or size <= limit]

    def _sizes(self, network):
        """Returns a dict of the precisions that make use of the zeros to bytes at least."""
        sizes = {p: least_bytes(self._shapes, network, p) for p in self.task.grid.precisions}
        return {precision: size for precision, size in sizes.items() if size is not None}

    def _try(self, network):
        """Makes a network and its files, and returns whether sparser ones can be worth it."""
        precisions = self._affordable(network)
        if not precisions:
            self.progress.advance(self._steps)
            return True
        if self._measured_accuracy(network) is None or self._is_hopeless(network):
            self.progress.advance(self._steps - 1)
            return False
        for precision in precisions:
            self._try_file(network, precision)
        self.progress.advance(self._steps - 1 - len(precisions))
        return True

    def _measured_accuracy(self, network):
        """Returns the accuracy of a network, made if it was not before, or `None` if it cannot."""
        self.progress.start(network.name)
        found, name = self.record, network.name
        if name not in found.accuracies and name not in found.problems:
            try:
                found.add_network(name, self._accuracy(network))
            except OSError:
                raise
            except Exception as error:  # A model's own code may fail in any way.
                found.add_problem(name, _reason(error))
        self.progress.advance(1)
        return found.accuracies.get(name)

    def _accuracy(self, network):
        if network.structure == DENSE:
            return self.task.dense_accuracy
        return self.task.accuracy(predict(self._model(network), self.task.validation))

    def _model(self, network):
        """Returns a plain model, made if it was not before."""
        path = self.task.folder / f"{network.name}.keras"
        if network.structure != DENSE and not path.exists():
            make_network(self.task, network, path)
        return load_network(self.task, network, path)

    def _maker_of(self, network):
        """Returns the `FileMaker` of a network. One is kept at a time."""
        if self._maker[0] != network:
            task, model = self.task, self._model(network)
            options = (task.samples, task.typical, task.goal, task.runs, self._processes)
            self._maker = network, FileMaker(model, *options)
        return self._maker[1]

    def _try_file(self, network, precision):
        """Makes and measures a file."""
        name = f"{network.name}_{precision}.tflite"
        self.progress.start(name)
        if name not in self.record.files and name not in self.record.problems:
            try:
                self.record.add_file(self._measured(network, precision, name))
            except OSError:
                raise
            except Exception as error:  # A model's own code may fail in any way.
                self.record.add_problem(name, _reason(error))
        self.progress.advance(1)

    def _measured(self, network, precision, name):
        path, maker = self.task.folder / name, self._maker_of(network)
        storage, milliseconds = maker.make(precision, path)
        validation, accuracy = self.task.validation, self.task.accuracy
        return CompressedFile(
            name=name,
            structure=network.structure,
            sparsity=network.sparsity,
            finetuned=network.finetuned,
            precision=precision,
            storage=storage,
            accuracy=file_accuracy(path, validation, accuracy, self._processes.interpreter),
            num_bytes=path.stat().st_size,
            latency_ms=milliseconds,
            flops=self._flops(maker.model),
        )

    def _flops(self, model):
        try:
            return float(flops(model).sparse)
        except ValueError:
            if "flops" in self.task.limits.values:
                raise
            return None

    def _time_together(self):
        """Times all files anew, in turns, so that other load on the machine affects all alike."""
        rows, folder = self.record.files, self.task.folder
        contents = {name: (folder / name).read_bytes() for name in rows}
        try:
            found = self._latencies(contents)
        except ExportError:
            # Each file keeps the time that it was measured with when it was made.
            return
        for name, milliseconds in found.items():
            self.record.add_file(dataclasses.replace(rows[name], latency_ms=milliseconds))

    def _latencies(self, contents):
        if not contents:
            return {}
        process = self._processes.interpreter
        return latencies(contents, self.task.samples, self.task.runs, process)

    def _make_nearest(self, structure):
        """Makes the smallest files of the sparsest accurate network and of the next one.

        Accurate ones that cannot meet the budget are made now. None is trained for it.
        """
        for finetuned in self._rounds:
            networks = self.task.grid.networks(structure, finetuned)
            tried = [n for n in networks if n.name in self.record.accuracies]
            self._try_smallest([n for n in tried if self._is_hopeless(n)][:1])
        for network in reversed(self.task.grid.networks(structure)):
            if not self._affordable(network) and self._measured_accuracy(network) is None:
                return
            if not self._is_hopeless(network):
                return self._try_smallest([network])

    def _try_smallest(self, networks):
        for network in networks:
            if sizes := self._sizes(network):
                self._try_file(network, min(sizes, key=sizes.get))


def _reason(error):
    """Returns why a network or file could not be made, without advice for an export by itself."""
    if isinstance(error, ExportError):
        return error.problem
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
