"""The option `--device` of a benchmark."""

from __future__ import annotations

import argparse

import torch

from sab_agents.train.errors import UserError


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--device`."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")


def check_device(device: str) -> None:
    """Raises UserError if torch cannot use the device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda needs a GPU that torch can use, but none is available. Leave --device out.")


def name_of(device: str) -> str:
    """Returns the name that stands above a table."""
    return "CPU" if device == "cpu" else torch.cuda.get_device_name()
