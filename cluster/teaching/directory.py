"""The folder of a teacher's training: what it leaves behind, and what it goes on from.

`teach.toml` (the resolved recipe), `metrics.jsonl` and TensorBoard events (its curve),
`checkpoints/`, and in the end `teacher.safetensors` with its specification. It is the folder of
`stillhouse teach --out`, and `teaching/` in the directory of a run that trains its teacher first.
"""

from pathlib import Path

from cluster.recipe.config import RunConfig, load_recipe
from cluster.run_directory import RunDirectory
from common.errors import ConfigError
from common.storage import Location


class TeachDirectory(RunDirectory):
    """Where everything lies in it."""

    @property
    def recipe(self) -> Location:
        """The resolved recipe; under this name, nobody takes the folder for that of a run."""
        return self.path / "teach.toml"


def open_training(
    directory: TeachDirectory, recipe: Path, overrides: list[str], *, go_on: bool
) -> RunConfig:
    """Return the recipe of a new training, or of the one that is there.

    Args:
        directory: where the training is, or will be.
        recipe: of a new one.
        overrides: of either recipe.
        go_on: whether to go on with the one that is there, if there is one.

    Raises:
        ConfigError: the recipe is wrong or trains no teacher, or the place is taken.
        StorageError: nobody can say what is there.
    """
    path = directory.path
    if path.name.endswith(".safetensors"):
        raise ConfigError(
            f"--out {path}: names a file; give a folder, in which the teacher will be "
            f"{directory.teacher.name}"
        )
    resumes = go_on and directory.recipe.is_file()
    config = load_recipe(directory.recipe if resumes else recipe, overrides)
    if config.teach is None:
        raise ConfigError(f"{recipe}: has no [teach] table, so there is no teacher to train")
    if not resumes and (path.is_file() or path.names()):
        raise ConfigError(
            f"--out {path}: not an empty folder; name another, or go on with the training in it "
            f"with --resume"
        )
    return config
