"""Methods that prune a freshly initialized model, before training."""

from tf_lottery.at_init._grasp import grasp as grasp
from tf_lottery.at_init._random import random as random
from tf_lottery.at_init._snip import snip as snip
from tf_lottery.at_init._synflow import synflow as synflow
