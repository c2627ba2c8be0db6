"""Bridges to other libraries, which are optional and are not imported here."""

from tf_lottery.interop import tfmot as tfmot
