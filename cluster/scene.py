"""Where policies play that are no runs' students, as a command is told."""

from dataclasses import dataclass, field

from cluster.players import Entry, entry_alone, entry_in_recipe, part_of
from cluster.recipe.config import RunConfig, load_recipe
from common.errors import ConfigError
from common.policies.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was asked: a recipe, or an environment, or neither, where the policies say it.

    Raises:
        ConfigError: both were named.
    """

    recipe: str | None = None
    env: str | None = None
    task: str | None = None
    """Which, of policies and recipes of several."""
    overrides: list[str] = field(default_factory=list)
    """Of the recipe's keys."""
    trust: bool = False
    """Whether policies and environments may run code of their own."""

    def __post_init__(self) -> None:
        if self.recipe is not None and self.env is not None:
            raise ConfigError("--recipe and --env: give one of them")

    @property
    def is_named(self) -> bool:
        """Whether it says more than the policies do."""
        return self.recipe is not None or self.env is not None

    def config(self) -> RunConfig | None:
        """Return the recipe of the one task, where a recipe was named.

        Raises:
            UserError: it cannot be read, or has several tasks and not that one.
        """
        if self.recipe is None:
            return None
        return part_of(load_recipe(self.recipe, self.overrides), self.task)

    def entry(
        self, title: str, policy: Policy, config: RunConfig | None, *, beside: Entry | None = None
    ) -> Entry:
        """Return a policy in its environment.

        Args:
            title: what to call it.
            policy: of one task.
            config: the recipe to play in, if any.
            beside: whose environment it is, where nothing else says so.

        Raises:
            ConfigError: nothing says enough.
        """
        if config is not None:
            return entry_in_recipe(title, policy, config)
        return entry_alone(title, policy, env_id=self.env, trust=self.trust, beside=beside)
