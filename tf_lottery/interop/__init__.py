"""Bridges to other libraries. They are optional, and none of them is imported here."""

from tf_lottery.interop import tfmot as tfmot
