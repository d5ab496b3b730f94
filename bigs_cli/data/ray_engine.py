"""Tokenization on a Ray cluster: every block of text is a task, and Ray repeats those whose worker is lost.

All machines must have bigs, and see the sources and the output folder under the same paths.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigs_cli.core.errors import BigsError, RequestError, first_line
from bigs_cli.data.build import BuildOptions, build_shards, parts_digest, texts_of
from bigs_cli.data.manifest import Manifest
from bigs_cli.data.portions import Portion, block_starts, count_in, merge, remove_others
from bigs_cli.data.sources import find_parts
from bigs_cli.data.staging import Request
from bigs_cli.data.validation import ValidationRule, choose_validation_rule

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PARTS_PER_CPU = 4
"""More parts balance the load better. Chosen by this project."""
_TRIES = 4
"""How many times a task is repeated whose worker was lost. Chosen by this project."""


def build_on_ray(
    request: Request, tokenizer: Callable[[ValidationRule], Tokenizer], output: Path, options: BuildOptions
) -> Manifest:
    """Write the shards of `request` into `output`, as `build_shards` does, on the Ray cluster at $RAY_ADDRESS.

    Without a cluster, one is started on this machine. If this is repeated after an error, finished blocks are kept.
    With `overwrite`, those with other settings are removed.

    Raises:
        RequestError: as `build_shards`, or Ray is not installed.
        BigsError: as `build_shards`, or the cluster cannot be reached, or lost the workers of a task again and again.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise RequestError("--engine ray requires Ray. Install it with: pip install 'bigs[ray]'") from None
    from ray.exceptions import RayError, RayTaskError  # pyright: ignore[reportMissingImports]

    parts = find_parts(request.sources, request.how, request.weights, options.say)
    rule = choose_validation_rule(lambda: texts_of(request, parts), request.heldout)
    vocabulary = tokenizer(rule).to_str()
    if options.overwrite:
        remove_others(output, request, parts_digest(parts))
    with redirect_stdout(sys.stderr):  # Ray prints its messages on stdout, which is for results.
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
            # Fewer parts than blocks: with `drop_duplicates`, each part reads all text before it.
            cpus = int(ray.cluster_resources().get("CPU", 1))
            count = count_in(output) or max(1, min(len(block_starts(parts)), _PARTS_PER_CPU * cpus))
            task: Any = ray.remote(num_cpus=1, max_retries=_TRIES)(_build_block)
            arguments = (request, vocabulary, str(output.absolute()), options.skip_bad, str(Path.cwd()))
            left = [task.remote(*arguments, number, count) for number in range(1, count + 1)]
            while left:
                done, left = ray.wait(left)
                options.advance(sum(ray.get(done)))
        except RayTaskError as error:
            if isinstance(error.cause, BigsError):
                raise error.cause from None
            raise
        except (RayError, ConnectionError) as error:
            raise BigsError(f"The Ray cluster failed ({first_line(error)}). Repeat the command to continue.") from error
        finally:
            ray.shutdown()
    return merge(output, overwrite=options.overwrite)


def _build_block(
    request: Request, vocabulary: str, output: str, skip_bad: bool, directory: str, number: int, count: int
) -> int:
    """Build the shards of one block in a worker, and return the number of tokens."""
    from tokenizers import Tokenizer

    os.chdir(directory)
    portion = Portion(number, count)
    options = BuildOptions(workers=1, skip_bad=skip_bad, resume=True, portion=portion)
    manifest = build_shards(request, lambda rule: Tokenizer.from_str(vocabulary), portion.folder(Path(output)), options)
    return manifest.report.tokens
