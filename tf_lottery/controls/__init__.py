"""Controls: what a lottery ticket has to be compared with before it can be called one.

Every control takes a `Ticket` and returns a new one, so that
`controls.shuffle_masks(ticket).apply(model)` is its whole use. The first is left as it was, and the
provenance of the new one lists under `"control"` what was done, in order.
"""

from tf_lottery.controls.masks import random_masks as random_masks
from tf_lottery.controls.masks import shuffle_masks as shuffle_masks
from tf_lottery.controls.supermasks import evaluate_supermask as evaluate_supermask
from tf_lottery.controls.supermasks import supermask as supermask
from tf_lottery.controls.weights import constant_weights as constant_weights
from tf_lottery.controls.weights import final_weights as final_weights
from tf_lottery.controls.weights import random_reinitialization as random_reinitialization
from tf_lottery.controls.weights import reshuffle_weights as reshuffle_weights
