"""Bricks that families of models share. They know no family."""
