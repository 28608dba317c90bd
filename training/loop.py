"""The training loop, for whatever is learned: a task brings the model, its batches, their loss and its evaluation.

A step: forward and backward over its micro-batches, gradients of summed losses all-reduced over the devices, divided
once by the step's global count of targets, clipped, applied. Everything a step needs follows from its number, the
weights and the optimiser's moments, which is why a run that was killed goes on to the bit.
"""

import contextlib
import dataclasses
import logging
import math
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import torch
from torch import nn

from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.store import storage
from mmcorpus.training import checkpoint
from mmcorpus.training.config import TrainingConfig
from mmcorpus.training.folder import STATE
from mmcorpus.training.metrics import MetricsLog
from mmcorpus.training.optim import gradient_norm, scale_and_clip
from mmcorpus.training.parallel import World
from mmcorpus.training.signals import Interrupts, TrainingInterrupted, deferred_interrupts
from mmcorpus.training.sinks import Sinks
from mmcorpus.training.speed import memory_gigabytes
from mmcorpus.training.tensors import Loaded

_log = logging.getLogger(__name__)

Batch = TypeVar("Batch")

NAMED: Final = 8
"""Samples, or reasons, that a message names."""


@dataclasses.dataclass(kw_only=True)
class Totals:
    """Progress of a run over all its resumptions; part of each checkpoint. A task adds the counts of its batches."""

    step: int = 0
    seconds: float = 0.0
    """Spent in steps."""
    loss: float | None = None
    """Of the last step, in nats a target; None before the first."""
    skipped: int = 0
    """Steps whose loss or gradient was not finite, and which left the weights alone."""


class Task(Protocol[Batch]):
    """One thing to learn: everything that the loop does not know of it."""

    kind: str  # kept in checkpoints
    title: str  # of the progress bar
    config: TrainingConfig
    model: nn.Module  # on its device or devices, in training mode, frozen parts frozen
    steps: int  # of the whole run
    totals: Totals
    data: dict[str, Any]  # identifies the training data (JSON-able, one key): a run is resumed over the same data alone
    rates: ClassVar[dict[str, str]]  # metrics by name, and the count that each gives a second

    def micro_batches(self, step: int) -> int:
        """Forward passes of step 0, 1, … on this device, as many as on every other."""

    def batches(self, first: int) -> Generator[Batch]:
        """This device's micro-batches of every step from `first` on, in order."""

    def loss(self, batch: Batch) -> tuple[dict[str, torch.Tensor], float, dict[str, int]]:
        """The terms of what is minimised: `loss` and any penalties, by the names that their means have in the metrics,
        each summed over the batch's targets times their weights, an fp32 scalar in nats; the sum of weights, the number
        of targets where all are 1; and counts to add to the totals' fields of these names. The same names for every
        batch."""

    overlapped: bool = False  # whether gradients have been reduced over the devices when the backward pass is over

    def micro_batch(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """A context for the forward and backward pass of a micro-batch; does nothing unless a task overrides it."""
        return contextlib.nullcontext()

    def suspects(self) -> list[str]:
        """The samples of the step on this device whose loss is not finite; none unless a task overrides it."""
        return []

    def sums(self) -> list[float]:
        """More of the step's sums on this device, for `metrics`; none unless a task overrides it."""
        return []

    def check(self, counts: Mapping[str, int]) -> None:
        """Called on every device before the weights move, with the step's counts over all devices; raises, on all
        alike, if the step must not be. Does nothing unless a task overrides it."""
        return

    def after_step(self) -> None:
        """Called when the weights have moved; does nothing unless a task overrides it."""
        return

    def metrics(self, sums: Sequence[float], seconds: float) -> dict[str, Any]:
        """The task's part of a line in metrics.jsonl; `sums` are the step's, over all devices, `seconds` its length."""

    def evaluate(self) -> dict[str, Any]:
        """Evaluate on held-out data, note it in the totals, and return it as metrics; empty without such data."""

    def weights(self) -> dict[str, torch.Tensor]:
        """The tensors of a checkpoint's model."""

    def save_model(self, folder: str, weights: Mapping[str, torch.Tensor] | None) -> None:
        """Write the model into a checkpoint's local folder: the weights, whole, and what else it is; None for sharded
        weights, of which each process has written its part. Maybe called in a thread, while training goes on."""

    def state(self) -> dict[str, Any]:
        """The task's part of `state.json`."""


class Trainer(Generic[Batch]):
    """A run under way in one process, begun or resumed from a checkpoint."""

    def __init__(self, task: Task[Batch], out: str, world: World, resumed: str | None) -> None:
        self.task, self.out, self.world, self.saved = task, out, world, resumed
        self.saving: checkpoint.Saving | None = None
        torch.manual_seed(task.config.seed)
        self.parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        self.optimizer = task.config.optimizer.build(task.model, task.config.parameter_groups)
        self.owed = False  # whether the last checkpoint's held-out evaluation did not come to its end
        if resumed:
            state = checkpoint.read_state(resumed)
            task.totals = type(task.totals)(**state["totals"])
            self.owed = state.get("evaluation_owed", False)
            moments = Loaded(checkpoint.open_tensors(resumed, "optimizer"))
            checkpoint.load_optimizer(task.model, self.optimizer, moments)
            checkpoint.set_rng(checkpoint.read_tensors(resumed, "rng"), world.device)

    def run(self) -> str:
        """Train what is left; returns the last checkpoint.

        Raises TrainingInterrupted (a KeyboardInterrupt) after Ctrl-C or SIGTERM once a checkpoint is written, and
        FloatingPointError if the gradient is not finite in more steps than may be skipped.
        """
        task, config, totals, main = self.task, self.task.config, self.task.totals, self.world.is_main
        if main:
            root = storage.join(self.out, "checkpoints")
            storage.sweep(root)  # of a step at which this run may never save: a kill's, after a request to stop
            if self.saved:
                checkpoint.remove_old(root, config.checkpoints.keep_last)
        if totals.step >= task.steps and self.saved and not self.owed:
            return self.saved
        with contextlib.ExitStack() as stack:
            stack.callback(self._settle)
            interrupts = stack.enter_context(deferred_interrupts())
            log = progress = None
            outputs: list[MetricsLog | Sinks] = []
            if main:
                path = storage.join(self.out, "metrics.jsonl")
                log = stack.enter_context(MetricsLog(path, totals.step, evaluated=not self.owed))
                settings = dataclasses.asdict(config)
                sinks = stack.enter_context(Sinks(config.log, self.out, task.title, totals.step, settings))
                outputs = [log, sinks]
                progress = stack.enter_context(Progress(task.title, total=task.steps - totals.step, unit="step"))
            if self.owed:
                self._evaluate(outputs)
            batches = stack.enter_context(contextlib.closing(task.batches(totals.step)))
            while totals.step < task.steps:
                line, stop = self._step(batches, interrupts)
                last = totals.step == task.steps
                if last or "skipped" in line or totals.step % config.log_every == 0:
                    for output in outputs:
                        output.write(line)
                evaluate = last or (config.heldout.every > 0 and totals.step % config.heldout.every == 0)
                save = last or stop or totals.step % config.checkpoints.every == 0
                if save:
                    if log:
                        log.flush()  # before: a checkpoint's lines must be there
                    self._save(owed=evaluate, wait=last or stop)
                if evaluate:
                    self._evaluate(outputs)
                if save and log:
                    log.flush()
                if progress:
                    progress.advance()
                if stop and not last:
                    raise TrainingInterrupted(
                        f"stopped after step {totals.step} of {task.steps}; run again to go on from {self.saved}"
                    )
        assert self.saved is not None
        return self.saved

    def _step(self, batches: Iterator[Batch], interrupts: Interrupts) -> tuple[dict[str, Any], bool]:
        """One optimiser step; returns its metrics and whether any process was asked to stop."""
        task, world, totals = self.task, self.world, self.task.totals
        start, waited = time.monotonic(), 0.0
        terms, targets, counts = dict[str, torch.Tensor](), 0.0, Counter[str]()
        rounds = task.micro_batches(totals.step)
        for number in range(rounds):
            before = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - before
            with task.micro_batch(last=number + 1 == rounds):
                summed, found, more = task.loss(batch)
                torch.stack([*summed.values()]).sum().backward()
            terms = {name: terms.get(name, 0.0) + term.detach() for name, term in summed.items()}
            targets += found
            counts.update(more)
        if not task.overlapped:
            world.all_reduce_gradients(self.parameters)
        here = [targets, float(interrupts.asked), *map(float, terms.values()), *map(float, counts.values())]
        all_targets, stop, *found_sums = world.sums([*here, *task.sums()])
        term_sums, all_counts = found_sums[: len(terms)], found_sums[len(terms) :][: len(counts)]
        all_sums = found_sums[len(terms) + len(counts) :]
        in_step = {name: int(count) for name, count in zip(counts, all_counts, strict=True)}
        task.check(in_step)
        divisor = all_targets or 1.0
        rates, norm, norms = self._update(divisor)
        if norm is None:
            went: dict[str, Any] = {"skipped": world.gathered(task.suspects())}
        else:
            means = {name: summed / divisor for name, summed in zip(terms, term_sums, strict=True)}
            went = {**means, "gradient_norm": norm, **({"gradient_norm_by_group": norms} if norms else {})}
        task.after_step()
        seconds = time.monotonic() - start
        totals.step += 1
        totals.seconds += seconds
        totals.loss = went.get("loss", totals.loss)
        for name, count in in_step.items():
            setattr(totals, name, getattr(totals, name) + count)
        line = {
            "step": totals.step,
            **went,
            "learning_rate": next(iter(rates.values())),
            **({"learning_rate_by_group": rates} if len(rates) > 1 else {}),
            **task.metrics(all_sums, seconds),
            "seconds": round(totals.seconds, 4),
            **{name: round(in_step[unit] / seconds, 1) for name, unit in task.rates.items()},
            "data_wait": round(waited / seconds, 4),
            "memory": round(memory_gigabytes(world.device), 3),
        }
        return line, stop > 0

    def _clip(self, targets: float) -> tuple[float, dict[str, float]]:
        """Divide the summed gradients and clip them, those of groups with a norm of their own apart; returns the whole
        norm, and that of each group if there are several, before clipping."""
        groups = self.optimizer.param_groups
        own = {group["label"]: group["clip"] for group in groups}
        members = {label: [p for group in groups if group["label"] == label for p in group["params"]] for label in own}
        norms = {label: gradient_norm(members[label]) / targets for label in own} if len(own) > 1 else {}
        apart = {id(p) for label, clip in own.items() if clip is not None for p in members[label]}
        shared = [parameter for parameter in self.parameters if id(parameter) not in apart]
        parts = [(shared, self.task.config.optimizer.gradient_clip)] if shared else []
        parts += [(members[label], clip) for label, clip in own.items() if clip is not None]
        found = [scale_and_clip(parameters, targets, largest) for parameters, largest in parts]
        return found[0] if len(found) == 1 else math.hypot(*found), norms

    def _update(self, targets: float) -> tuple[dict[str, float], float | None, dict[str, float]]:
        """Move the weights by the summed gradients and zero these; returns the groups' learning rates, the gradient's
        norm, and each group's.

        The norm is None, and the weights stay, if it is not finite and the step may be skipped.
        """
        config, totals = self.task.config, self.task.totals
        norm, norms = self._clip(targets)
        finite = math.isfinite(norm)
        for group in self.optimizer.param_groups:
            group["lr"] = config.schedule.learning_rate(
                group["initial_lr"], totals.step, self.task.steps, group["warmup"]
            )
        if finite:
            self.optimizer.step()
        elif totals.skipped < config.skip_non_finite:
            totals.skipped += 1
        else:
            named = self.world.gathered(self.task.suspects())
            whose = f" (not finite: the loss of {', '.join(named[:NAMED])})" if named else ""
            raise FloatingPointError(
                f"step {totals.step + 1}: the gradient's norm is {norm}, so the weights would be lost{whose}. Lower "
                "optimizer.learning_rate, use compute.precision fp32, or let some such steps pass by skip_non_finite; "
                f"the last checkpoint is {self.saved or 'none'}"
            )
        self.optimizer.zero_grad(set_to_none=True)
        rates = {group["label"]: float(group["lr"]) for group in self.optimizer.param_groups}
        return rates, norm if finite else None, norms

    def _evaluate(self, outputs: Sequence[MetricsLog | Sinks]) -> None:
        """Evaluate on held-out data and note it in the checkpoint that was written before, if this step has one.

        What fails costs no step: of one process, which alone can tell that no other is elsewhere, without a checkpoint
        either. The run then goes on with the evaluation.
        """
        totals, saved = self.task.totals, self.owed
        try:
            found = self.task.evaluate()
        except Exception:
            if not saved and self.world.size == 1:
                self._save(owed=True, wait=True)
            _log.error("the held-out evaluation after step %d failed; %s is kept", totals.step, self.saved or "nothing")
            raise
        for output in outputs if found else ():
            output.write({"step": totals.step, **found})
        self.owed = False
        self._settle()
        if saved and self.saved and self.world.is_main:
            storage.write_json(storage.join(self.saved, STATE), self._state())

    def _state(self) -> dict[str, Any]:
        task = self.task
        return {
            "step": task.totals.step,
            "steps": task.steps,
            "kind": task.kind,
            "identity": {"stage": task.config.result_settings(), **task.data},
            "config": dataclasses.asdict(task.config),
            "totals": dataclasses.asdict(task.totals),
            **({"evaluation_owed": True} if self.owed else {}),
            **task.state(),
        }

    def _save(self, *, owed: bool, wait: bool) -> None:
        """Write a checkpoint of this step, before its held-out evaluation if one is owed; or begin to, if it is written
        in the background and nothing has to wait for it."""
        self._settle()
        self.owed, task, checkpoints = owed, self.task, self.task.config.checkpoints
        background = checkpoints.asynchronous and not wait
        self.saving = checkpoint.begin_checkpoint(
            storage.join(self.out, "checkpoints"), self._state(), task.model, self.optimizer, task.weights(),
            task.save_model, keep_last=checkpoints.keep_last, write=self.world.is_main, device=self.world.device,
            background=background,
        )  # fmt: skip
        if not background:
            self._settle()
            self.world.barrier()

    def _settle(self) -> None:
        """Wait for a checkpoint that is being written; raises what writing it raised."""
        if self.saving is not None:
            saving, self.saving = self.saving, None
            self.saved = saving.wait()
