"""What a paper trained: its network, data and settings, and what it published of them."""

import dataclasses

from tf_lottery.experiments.retraining import RetrainSettings
from tf_lottery.experiments.training import TrainSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A training of a paper, ready to be run.

    Args:
        name: String, what it is called in the command.
        source: String, the paper and its table.
        dataset: String, a data set of TensorFlow Datasets, `"tiny_imagenet"` or `"wikitext-103"`.
        image_size: Integer, rows and columns of images that are read from disk while training.
            Defaults to `None`: a data set that fits into memory.
        num_classes: Integer.
        num_train: Integer, the number of training examples, or `None` if the settings say how
            many steps an epoch has.
        settings: `TrainSettings`, of the search if there is a `retraining`.
        retraining: `RetrainSettings`, how the ticket is trained. Defaults to `None`: the network
            of the training is the result.
        published: Dict of what the paper, or its code, reports: `"test_accuracy"`,
            `"inference_flops"` as a fraction of the dense network's, `"megaflops"` and
            `"megabytes"`, counted by the paper's own rules. Defaults to none.
        ours: String, what the paper leaves open and was chosen here. Defaults to `""`.
    """

    name: str
    source: str
    dataset: str
    num_classes: int
    num_train: int | None
    settings: TrainSettings
    image_size: int | None = None
    retraining: RetrainSettings | None = None
    published: dict = dataclasses.field(default_factory=dict)
    ours: str = ""

    @property
    def steps(self) -> int:
        """The steps of a training, or of a level or round of a search."""
        steps = self.settings.steps_per_epoch
        if steps is None:
            steps = self.num_train // self.settings.batch_size
        return self.settings.epochs * steps

    @property
    def total_steps(self) -> int:
        """The most steps of all trainings: levels, rounds, and the retraining of the ticket.

        Levels that rewind to a later step have fewer.
        """
        return self.steps * (self.settings.num_trainings + (self.retraining is not None))

    def shortened(self, batch_size: int, steps: int) -> "Reproduction":
        """Returns the same with a few steps of small batches, to try it.

        Args:
            batch_size: Integer > 0.
            steps: Integer > 0, those of the training, or of every level or round.

        Example:

        >>> from tf_lottery.experiments.reproductions import REPRODUCTIONS
        >>> REPRODUCTIONS["resnet-50-rigl-80"].shortened(batch_size=4, steps=3).steps
        3
        """
        share = batch_size / self.settings.batch_size
        short: dict = {
            "batch_size": batch_size,
            "epochs": 1,
            "steps_per_epoch": steps,
            # In proportion to the batch (arXiv:1706.02677, section 2.1).
            "learning_rate": self.settings.learning_rate * share,
        }
        masks: dict = {}
        if self.settings.method == "rigl":
            masks = {"frequency": 1, "end_step": steps}
        elif self.settings.method == "imp":
            masks = {"levels": 1, "rewind_to_step": 0}
        elif self.settings.method == "cs":
            masks = {"rounds": 1, "gate_learning_rate": self.settings.gate_learning_rate * share}
        settings = dataclasses.replace(self.settings, **short, **masks)
        # Others take many steps before the first.
        tweaks: dict = {"tweaks": ("soft_activations", "label_smoothing")}
        retraining = self.retraining and dataclasses.replace(self.retraining, **short, **tweaks)
        return dataclasses.replace(self, settings=settings, retraining=retraining)
