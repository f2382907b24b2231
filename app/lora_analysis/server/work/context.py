"""What a job can do: find its adapters, tell how far it is, hear that it should stop, leave a result."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import FileAccessError, OptionError
from ...formats.discovery import PIPELINE_INDEX, pipeline_components
from ...json_ready import json_ready
from ..catalog.scan import add_item
from ..catalog.store import Catalog, Location
from ..roots import Root, resolve_within

Send = Callable[[dict[str, Any]], None]
_BASES = ".bases"  # beside the links to the roots, whose names never begin with a dot


class Work:
    """One job in a worker process, whose working directory is the folder with a link per root."""

    def __init__(
        self,
        params: Mapping[str, Any],
        *,
        roots: Sequence[Root],
        catalog: Catalog,
        result: str,
        send: Send,
        cancelled: Callable[[], bool],
    ) -> None:
        self.params = params
        self.roots = roots
        self.catalog = catalog
        self.cancelled = cancelled
        self.outputs: list[str] = []
        self._result = result
        self._send = send

    def path_of(self, adapter: str) -> str:
        """``label/inside/the/root`` of an adapter, which is all that any message will say of where it is.

        Raises: FileAccessError where it is unknown, gone, or would lead out of its root.
        """
        root, found = self._located(adapter)
        resolve_within(root, found.path)
        return f"{root.label}/{found.path}"

    def checkpoint_path(self, checkpoint: str) -> str:
        """The same of base weights. Raises: FileAccessError as for an adapter; OptionError where it is none."""
        _, found = self._located(checkpoint)
        if not found.is_checkpoint:
            raise OptionError(f"{found.name} is no checkpoint")
        return self.path_of(checkpoint)

    def base_path(self) -> str | None:
        """The checkpoint named as ``base``; None where there is none."""
        return None if "base" not in self.params else self.checkpoint_path(self.params["base"])

    def own_name_of_base(self) -> str | None:
        """The checkpoint named as ``base`` under a name in a folder of the server's own.

        What is kept beside a checkpoint, its norms, lands there and not in the library.
        """
        if "base" not in self.params:
            return None
        self.base_path()  # which checks it
        root, found = self._located(self.params["base"])
        place = resolve_within(root, found.path)
        own = os.path.join(_BASES, found.id, os.path.basename(found.path))
        if os.path.isdir(place):
            for name in ("", *pipeline_components(place)):
                _link_weights(os.path.join(place, name), os.path.join(own, name))
        else:
            os.makedirs(os.path.dirname(own), mode=0o700, exist_ok=True)
            _link(place, own)
        return own

    def _located(self, item: str) -> tuple[Root, Location]:
        found = self.catalog.location(item)
        root = None if found is None else self._root(found.root)
        if found is None or root is None:
            raise FileAccessError("this adapter is not in the library any more")
        return root, found

    def output_path(self, name: str) -> str:
        """Where to write an output of that name, which has no folders."""
        return f"{self.output_root().label}/{name}"

    def free_bytes(self) -> int:
        """Of the disk that outputs are written to."""
        return shutil.disk_usage(self.output_root().path).free

    def output_root(self) -> Root:
        return next(root for root in self.roots if root.kind == "outputs")

    def _root(self, wanted: str) -> Root | None:
        return next((root for root in self.roots if root.id == wanted), None)

    def catalogue(self, root: Root, path: str) -> str | None:
        """Put what was written into the catalog. Returns: its id."""
        item = add_item(self.catalog, root, root.label, path)
        if item is not None:
            self.outputs.append(item)
        return item

    def progress(self, unit: str) -> Callable[[int, int], None]:
        """A progress function that counts in ``unit``."""

        def report(done: int, total: int) -> None:
            self._send({"progress": [done, total, unit]})

        return report

    def note(self, text: str) -> None:
        """Add a line to the job's log."""
        self._send({"note": text})

    def leave(self, document: Mapping[str, Any]) -> None:
        """The result: one strict JSON document."""
        self.leave_bytes(json.dumps(json_ready(document), allow_nan=False).encode())

    def leave_bytes(self, data: bytes) -> None:
        """The result, whole or not at all."""
        temporary = f"{self._result}.tmp"
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, self._result)


def _link_weights(folder: str, names: str) -> None:
    """Links in the folder ``names`` to the weights of another, and to what says which belong together."""
    os.makedirs(names, mode=0o700, exist_ok=True)
    for name in os.listdir(folder):
        if name.endswith((".safetensors", ".safetensors.index.json", PIPELINE_INDEX)):
            _link(os.path.join(folder, name), os.path.join(names, name))


def _link(place: str, name: str) -> None:
    """Make ``name`` a link to a file, whatever it was; another worker may be doing the same."""
    temporary = f"{name}.{os.getpid()}"
    os.symlink(place, temporary)
    os.replace(temporary, name)
