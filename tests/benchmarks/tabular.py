"""Distillation in grid worlds with tabular students, after Czarnecki et al. 2019.

Run: `python -m tests.benchmarks.tabular` (a good minute on one core). It prints two tables.

1. Who acts. Cross-entropy distillation of near-deterministic teachers in random grid worlds of
   20 × 20, by plain gradient steps, where teacher or student chooses the actions: env steps until
   the student's return is 99 % of its teacher's. They found student-driven data about three times
   faster.
2. How many actions. Students of the project's `expected_entropy` against plain entropy-regularised
   distillation, the actor-critic whose reward is log p(a_t|s_t), from 4 to 1,000 actions, after
   the same number of env steps. They found that the latter collapses.

Returns are exact: the student's table is solved for, not played. A world is a grid with walls and
with rewards on some squares that end the episode; every action leads into one of four directions,
which one is drawn for each square; a tenth of the moves goes elsewhere, and an episode ends after
any move with probability 0.01.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from common.networks import NetworkOutput
from common.trajectory import STUDENT
from learners.batch import DistillBatch, Sequences
from learners.objectives import ObjectiveConfig
from learners.objectives.expected_entropy import ExpectedEntropy
from learners.objectives.returns import reward_to_go

DISCOUNT = 0.99
SLIPS, ENDS = 0.1, 0.01
WALLS, PRIZES, TRAPS = 0.1, 0.02, 0.05
PRIZE, TRAP = 10.0, -1.0
SHARE = 0.99
COPIES = 4
"""Of a world in the first table."""

Table = npt.NDArray[np.float64]


class GridWorld:
    """A random grid, as tables.

    Args:
        side: squares along an edge.
        num_actions: A.
        copies: played at once.
        seed: of everything.
    """

    def __init__(self, *, side: int, num_actions: int, copies: int, seed: int) -> None:
        rng = self.rng = np.random.default_rng(seed)
        count = self.num_states = side * side
        self.num_actions = num_actions
        self.start = (side // 2) * side + side // 2
        draw = rng.random(count)
        wall = draw < WALLS
        prize = (draw >= WALLS) & (draw < WALLS + PRIZES)
        trap = (draw >= WALLS + PRIZES) & (draw < WALLS + PRIZES + TRAPS)
        self.rewards = np.where(prize, PRIZE, np.where(trap, TRAP, 0.0))
        for special in (wall, prize, trap):
            special[self.start] = False
        self.rewards[self.start] = 0.0
        self.ends = prize | trap
        rows, columns = np.divmod(np.arange(count), side)
        self.moves = np.empty((count, 4), np.int64)
        for direction, (down, right) in enumerate(((0, 1), (1, 0), (0, -1), (-1, 0))):
            row, column = rows + down, columns + right
            inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
            to = np.where(inside, row * side + column, np.arange(count))
            self.moves[:, direction] = np.where(wall[to], np.arange(count), to)
        self.directions = rng.integers(4, size=(count, num_actions))
        self.directions[:, :4] = rng.permuted(np.tile(np.arange(4), (count, 1)), axis=1)
        self._state = np.full(copies, self.start)
        self._ended = np.zeros(copies, np.bool_)

    def direction_values(self) -> Table:
        """Return Q* of the four directions, [states, 4], by value iteration."""
        q = np.zeros((self.num_states, 4))
        for _ in range(600):
            after = (self.rewards + DISCOUNT * (1 - ENDS) * ~self.ends * q.max(-1))[self.moves]
            q = (1 - SLIPS) * after + SLIPS * after.mean(-1, keepdims=True)
        return q

    def teacher(self, temperature: float) -> Table:
        """Return logits [states, A] of a softmax over Q*."""
        q = self.direction_values() / temperature
        return np.take_along_axis(q, self.directions, axis=-1)

    def exact_return(self, policy: Table) -> float:
        """Return the discounted return of probabilities [states, A] from the start."""
        steered = np.zeros((self.num_states, 4))
        for direction in range(4):
            steered[:, direction] = (policy * (self.directions == direction)).sum(-1)
        steered = (1 - SLIPS) * steered + SLIPS / 4
        move = np.zeros((self.num_states, self.num_states))
        for direction in range(4):
            np.add.at(
                move, (np.arange(self.num_states), self.moves[:, direction]), steered[:, direction]
            )
        goes_on = DISCOUNT * (1 - ENDS) * ~self.ends
        values = np.linalg.solve(np.eye(self.num_states) - move * goes_on, move @ self.rewards)
        return float(values[self.start])

    def play(self, logits: Table, labels: torch.Tensor, num_steps: int) -> DistillBatch:
        """Let logits [states, A] act by sampling, and return sequences of all copies."""
        rows = []
        for _ in range(num_steps):
            state, reset = self._state, self._ended
            noise = self.rng.gumbel(size=(state.size, self.num_actions))
            action = (logits[state] + noise).argmax(-1)
            slips = self.rng.random(state.size) < SLIPS
            direction = self.directions[state, action]
            direction = np.where(slips, self.rng.integers(4, size=state.size), direction)
            after = self.moves[state, direction]
            ended = (self.ends[after] | (self.rng.random(state.size) < ENDS)) & ~reset
            rows.append((state, action, self.rewards[after], ended, ~reset))
            self._state = np.where(reset, self.start, after)
            self._ended = ended
        states, actions, rewards, ended, valid = (
            torch.from_numpy(np.concatenate(column)) for column in zip(*rows, strict=True)
        )
        return DistillBatch(
            observations=states,
            actions=actions,
            rewards=rewards.float(),
            teacher_dist_inputs=labels[states],
            teacher_dist="logits",
            teacher_value=None,
            sequences=Sequences(
                num_steps=num_steps,
                valid=valid,
                starts=torch.zeros_like(valid),
                terminated=ended,
                truncated=torch.zeros_like(ended),
                behavior_log_prob=torch.zeros(len(states)),
                acting_policy=torch.full((len(states),), STUDENT),
            ),
        )


Loss = Callable[[DistillBatch, NetworkOutput], torch.Tensor]


class EntropyRegularised(ExpectedEntropy):
    """Entropy-regularised distillation: no ℓ, and r̂_t = log p(a_t|s_t)."""

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> torch.Tensor:
        """Return the loss of every sample, [B]."""
        path = self.path(batch, output)
        own = path.taken(path.log_p.clamp(min=self.lowest_log_p))
        after = reward_to_go(own.roll(-1, 0), path.values, path.ends, discount=self.discount)
        targets = torch.where(path.ends.cut, path.values.detach(), own + self.discount * after)
        actor, critic = self.credit(path, targets - path.values.detach(), targets)
        return (actor + critic - path.entropy).reshape(-1)


class Student:
    """Tables of logits and values, and the optimiser that learns them."""

    def __init__(
        self, world: GridWorld, optimizer: type[torch.optim.Optimizer], *, learning_rate: float
    ) -> None:
        self.logits = torch.zeros(world.num_states, world.num_actions, requires_grad=True)
        self.values = torch.zeros(world.num_states, requires_grad=True)
        self._optimizer = optimizer([self.logits, self.values], lr=learning_rate)  # type: ignore[call-arg]

    def learn(self, batch: DistillBatch, loss: Loss) -> None:
        """Take a gradient step."""
        states = batch.observations
        output = NetworkOutput(self.logits[states], self.values[states])
        self._optimizer.zero_grad()
        batch.mean(loss(batch, output)).backward()
        self._optimizer.step()

    def policy(self) -> Table:
        """Return π, [states, A]."""
        return self.logits.detach().double().softmax(-1).numpy()


def share(world: GridWorld, policy: Table, teacher: Table) -> float:
    """Return what a policy reaches of its teacher's return, less what a random one gets."""
    uniform = np.full_like(teacher, 1 / world.num_actions)
    low, high = world.exact_return(uniform), world.exact_return(teacher)
    return (world.exact_return(policy) - low) / (high - low)


def softmax(logits: Table) -> Table:
    """Return probabilities of logits [states, A]."""
    return torch.from_numpy(logits).softmax(-1).numpy()


def steps_to_share(seed: int, *, by_teacher: bool, most: int, num_steps: int = 16) -> int:
    """Return the env steps until the student reaches `SHARE`, or `most`."""
    world = GridWorld(side=20, num_actions=4, copies=COPIES, seed=seed)
    labels = world.teacher(temperature=0.02)
    told, teacher = torch.from_numpy(labels).float(), softmax(labels)
    term = ObjectiveConfig.model_validate({"kl": {"temperature": 1.0}}).terms()["kl"]
    # The gradient is a mean over the rows of an update: this is a rate of 1 a row.
    student = Student(world, torch.optim.SGD, learning_rate=1.0 * COPIES * num_steps)
    taken, checked = 0, 0.0
    while taken < most:
        acting = labels if by_teacher else student.logits.detach().double().numpy()
        student.learn(world.play(acting, told, num_steps), term)
        taken += COPIES * num_steps
        if taken >= checked * 1.05:
            checked = taken
            if share(world, student.policy(), teacher) >= SHARE:
                return taken
    return most


def share_after(seed: int, loss: Loss, *, num_actions: int, num_updates: int) -> float:
    """Return the student's share of its teacher after so many updates on its own paths."""
    world = GridWorld(side=10, num_actions=num_actions, copies=16, seed=seed)
    labels = world.teacher(temperature=0.2)
    told, teacher = torch.from_numpy(labels).float(), softmax(labels)
    student = Student(world, torch.optim.Adam, learning_rate=0.1)
    for _ in range(num_updates):
        acting = student.logits.detach().double().numpy()
        student.learn(world.play(acting, told, 16), loss)
    return share(world, student.policy(), teacher)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=20, help="of the first table")
    parser.add_argument("--updates", type=int, default=400, help="of 256 env steps, second table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    started, most = time.monotonic(), 60_000
    steps = {
        who: [
            steps_to_share(seed, by_teacher=who == "teacher", most=most)
            for seed in range(args.worlds)
        ]
        for who in ("teacher", "student")
    }
    print(f"env steps to {SHARE:.0%} of the teacher's return, {args.worlds} worlds of 20 x 20")
    for who, taken in steps.items():
        missed = sum(count == most for count in taken)
        print(f"  {who}-driven: median {statistics.median(taken):,.0f}; {missed} not by {most:,}")
    ratios = [a / b for a, b in zip(steps["teacher"], steps["student"], strict=True)]
    print(f"  teacher-driven takes {statistics.median(ratios):.1f} times as many (median)")
    print(f"  {time.monotonic() - started:.0f} s")
    settings = {"temperature": 1.0, "discount": DISCOUNT}
    losses: dict[str, Loss] = {
        "expected_entropy": ExpectedEntropy.model_validate(settings),
        "entropy-regularised": EntropyRegularised.model_validate(settings),
    }
    print(f"share of the teacher's return after {args.updates * 256:,} env steps, 3 worlds")
    for num_actions in (4, 32, 250, 1_000):
        reached = {
            name: statistics.mean(
                share_after(seed, loss, num_actions=num_actions, num_updates=args.updates)
                for seed in range(3)
            )
            for name, loss in losses.items()
        }
        told = ", ".join(f"{name} {found:.2f}" for name, found in reached.items())
        print(f"  {num_actions:5,} actions: {told}")
    print(f"  {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
