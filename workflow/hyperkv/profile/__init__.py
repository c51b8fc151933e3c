"""Stores alone: their speed against value size and connections, the layers below it, the limits of the machine."""
