"""Boards that are played: what each model's boot ROM or EEPROM asks a network for, step by step."""
