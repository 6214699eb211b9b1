"""Compiled loops over numpy blocks: pure, without the GIL, knowing neither files nor layouts."""
