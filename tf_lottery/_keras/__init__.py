"""All uses of private parts of Keras, each with the reason.

Everything here was checked with Keras 3.12 to 3.15. `tests/test_keras.py` has a test for each
function; if a newer Keras breaks one, the failing test names it.
"""

from tf_lottery._keras.checkpoints import SavesListedVariables as SavesListedVariables
from tf_lottery._keras.layers import all_layers as all_layers
from tf_lottery._keras.layers import compute_output_spec as compute_output_spec
from tf_lottery._keras.layers import is_operation_of_ops as is_operation_of_ops
from tf_lottery._keras.layers import is_state as is_state
from tf_lottery._keras.layers import is_symbolic as is_symbolic
from tf_lottery._keras.layers import kept_nodes as kept_nodes
from tf_lottery._keras.layers import no_rematerialization as no_rematerialization
from tf_lottery._keras.layers import output_shape_of_lambda as output_shape_of_lambda
from tf_lottery._keras.layers import replace_sublayers as replace_sublayers
from tf_lottery._keras.models import first_epoch as first_epoch
from tf_lottery._keras.models import scaled_for_replicas as scaled_for_replicas
from tf_lottery._keras.models import set_first_epoch as set_first_epoch
from tf_lottery._keras.models import track_parameters as track_parameters
from tf_lottery._keras.optimizers import add_overwritten as add_overwritten
from tf_lottery._keras.optimizers import exclude_from_weight_decay as exclude_from_weight_decay
from tf_lottery._keras.optimizers import overwrite_as_keras as overwrite_as_keras
from tf_lottery._keras.optimizers import overwrite_at_every_batch as overwrite_at_every_batch
from tf_lottery._keras.optimizers import remove_overwritten as remove_overwritten
from tf_lottery._keras.optimizers import trains as trains
from tf_lottery._keras.variables import active_scope as active_scope
from tf_lottery._keras.variables import is_stored as is_stored
from tf_lottery._keras.variables import kept_random_state as kept_random_state
from tf_lottery._keras.variables import layout_of as layout_of
from tf_lottery._keras.variables import stored_values as stored_values
