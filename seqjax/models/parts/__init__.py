"""Bricks that families of models share: layers, attention, positions, output layers."""
