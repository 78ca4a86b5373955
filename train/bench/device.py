"""The option `--device` of a benchmark."""

from __future__ import annotations

import argparse

import torch


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--device`."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")


def name_of(device: str) -> str:
    """Returns the name that stands above a table."""
    return "CPU" if device == "cpu" else torch.cuda.get_device_name()
