"""Folders as Hugging Face's transformers has them, read without it and written for it."""
