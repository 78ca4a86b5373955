"""Data sets that the tasks read: texts and labelled images, from the user's folder, a library or a checked download."""

from sab_agents.envs.datasets.images import IMAGE_SETS, Images, Labelled, load_images
from sab_agents.envs.datasets.text import LOADERS, Text, load_text

__all__ = ["IMAGE_SETS", "LOADERS", "Images", "Labelled", "Text", "load_images", "load_text"]
