"""`sab-agents watch RUN`: a trained agent acts, in a window, as text, or in a video file."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sab_agents.train.commands.arguments import Parser, at_least_one, at_least_zero
from sab_agents.train.configuration import settings_of
from sab_agents.train.errors import UserError
from sab_agents.train.output import lines
from sab_agents.train.run_folder import RunFolder


def command(arguments: Sequence[str]) -> int:
    """Plays some episodes and shows each step."""
    parser = Parser("watch", "Let a trained agent act: in a window, as text where there is none, or in a video file.")
    parser.add_argument("run", metavar="RUN", help="the run folder of an agent that sab-agents train wrote")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write a .gif or .webp instead")
    parser.add_argument("--episodes", type=at_least_one, default=1, metavar="N", help="default: 1")
    parser.add_argument("--most", type=at_least_one, default=1000, metavar="N", help="steps of each; default: 1000")
    parser.add_argument("--seed", type=at_least_zero, default=0, metavar="N", help="of the environment; default: 0")
    parser.add_argument("--text", action="store_true", help="print each step, also where there is a window")
    parser.add_argument("--env-arg", nargs="+", default=(), metavar="NAME=VALUE", help="arguments of the environment")
    given = parser.parse(arguments)
    folder = RunFolder(given.run)
    if not folder.holds_agent:
        raise UserError(
            f"{given.run} holds a model of sequences, which does not act. See its plots, or score it: "
            f"sab-agents evaluate {given.run}."
        )
    # stable-baselines3 takes a while to import, which a mistyped flag should not cost.
    playing = importlib.import_module("sab_agents.train.agents.playing")
    if given.video is not None and given.video.suffix not in playing.VIDEOS:
        raise UserError(f"--video: {given.video} must end in {' or '.join(playing.VIDEOS)}.")
    modes, fps = playing.render_modes(given.run)
    mode = _mode(modes, video=given.video is not None, text=given.text)
    console, frames = lines(), list[Any]()
    for step in playing.played(
        given.run,
        mode,
        episodes=given.episodes,
        most=given.most,
        seed=given.seed,
        arguments=settings_of("env-arg", given.env_arg),
    ):
        if mode == "rgb_array":
            frames.append(step.picture)
            if console.is_terminal:
                console.print(f"{len(frames):,} frames", end="\r")
        elif mode != "human":
            console.print(_text(step), markup=False)
        if mode == "human" or (mode == "ansi" and console.is_terminal):
            playing.pause(fps)
        if step.total is not None:
            console.print(f"return {step.total:.4g} after {step.number:,} steps")
    if given.video is not None:
        playing.write_video(given.video, frames, fps)
        console.print(f"{given.video} · {len(frames):,} frames")
    return 0


def _mode(modes: Sequence[str], *, video: bool, text: bool) -> str | None:
    """Returns the render mode: that of pictures for a video, else a window if there is one, else text, else None."""
    if video:
        if "rgb_array" not in modes:
            raise UserError(f"--video: the environment makes no pictures, only: {', '.join(modes) or 'nothing'}.")
        return "rgb_array"
    for mode in ("ansi",) if text else ("human", "ansi"):
        if mode in modes:
            return mode
    return None


def _text(step: Any) -> str:
    picture = "" if step.picture is None else f"\n{step.picture}"
    return f"{step.number:>5}  saw {_short(step.observation)}  did {_short(step.action)}  got {step.reward:g}{picture}"


def _short(value: Any) -> str:
    """Returns an observation of one row, or an action, in a few words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(each)}" for name, each in value.items())
    array = np.asarray(value)
    row = array[0] if array.ndim > 1 else array
    if row.size > 8:
        return f"{' by '.join(map(str, row.shape))} numbers"
    return np.array2string(row, precision=3, suppress_small=True)
