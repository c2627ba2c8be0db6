"""Controls: the comparisons that show whether a sparse network is a lottery ticket.

Every control takes a `Ticket` and returns a new one, to be applied to a model:
`controls.shuffle_masks(ticket).apply(model)`. The given ticket is not changed. The provenance of
the new one lists the applied controls in order, under `"control"`.
"""

from tf_lottery.controls.masks import random_masks as random_masks
from tf_lottery.controls.masks import shuffle_masks as shuffle_masks
from tf_lottery.controls.supermasks import evaluate_supermask as evaluate_supermask
from tf_lottery.controls.supermasks import supermask as supermask
from tf_lottery.controls.weights import constant_weights as constant_weights
from tf_lottery.controls.weights import final_weights as final_weights
from tf_lottery.controls.weights import random_reinitialization as random_reinitialization
from tf_lottery.controls.weights import reshuffle_weights as reshuffle_weights
