"""Faults that matter, put into copies of the package one by one: each must be caught by a test."""
