"""Pruning before training: which weights a freshly initialized model can do without."""

from tf_lottery.at_init.grasp import grasp as grasp
from tf_lottery.at_init.random import random as random
from tf_lottery.at_init.snip import snip as snip
from tf_lottery.at_init.synflow import synflow as synflow
