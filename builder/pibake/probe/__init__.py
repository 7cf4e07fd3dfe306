"""Boards that are played: what each model's boot ROM or EEPROM asks a network for, step by step."""

from pibake.probe.apart import apart, is_bridge
from pibake.probe.models import MODELS
from pibake.probe.play import MAC, SERIAL, identity, play
from pibake.probe.values import Result, Step, Verdict

__all__ = ["MAC", "MODELS", "SERIAL", "Result", "Step", "Verdict", "apart", "identity", "is_bridge", "play"]
