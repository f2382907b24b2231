"""Every exception this package raises on purpose.

::

    LoraAnalysisError
      FormatError (ValueError)       the bytes break the format
        HeaderError                  a safetensors, zip, pickle or GGUF header cannot be trusted
        UnsafePickleError            a pickle asks for something outside the allow-list; nothing was run
        ConfigError                  adapter_config.json is not what it should be
        MissingFactorError           one half of a factor pair is absent
        UnknownDialectError          no key in the file belongs to an adapter
      ShapeError (ValueError)        factors that cannot belong together
      NonFiniteError (ValueError)    NaN or infinity where a number is needed
      OpaqueUpdateError (ValueError) an update that is no delta without its base weight
      OptionError (ValueError)       a request that cannot be met, e.g. rank 0
      FileAccessError (OSError)      missing, not a regular file, or not readable
      OutputError (OSError)          the result could not be written; the old file is untouched
      MissingExtraError (ImportError)  an optional part is not installed
      CancelledError                 the caller asked to stop

A message is one line of at most 300 printable characters, whatever the file put into it; a longer one is cut in the
middle, which is in a path more often than in the reason.
``code`` is stable: programs may compare it.
"""

from __future__ import annotations

from .text import printable_ends

MESSAGE_LIMIT = 300


class LoraAnalysisError(Exception):
    """The root of the tree: catch this to catch everything raised here on purpose."""

    code = "error"

    def __init__(self, message: str) -> None:
        self.message = printable_ends(message, MESSAGE_LIMIT)
        super().__init__(self.message)

    def to_dict(self) -> dict[str, str]:
        """``{"type", "code", "message"}``: how every front end reports an error."""
        return {"type": type(self).__name__, "code": self.code, "message": self.message}


class FormatError(LoraAnalysisError, ValueError):
    """The bytes break the rules of their format."""

    code = "format"


class HeaderError(FormatError):
    """A header that cannot be trusted: framing, JSON, names, dtypes, shapes or offsets."""

    code = "header"


class UnsafePickleError(FormatError):
    """A pickle that asks for a global or an operation outside the allow-list. No code was run."""

    code = "unsafe-pickle"


class ConfigError(FormatError):
    """``adapter_config.json`` (or a weight index) is missing, broken or contradicts itself."""

    code = "config"


class MissingFactorError(FormatError):
    """A layer has one half of its factors only."""

    code = "missing-factor"


class UnknownDialectError(FormatError):
    """No tensor name in the file belongs to any known adapter."""

    code = "unknown-dialect"


class ShapeError(LoraAnalysisError, ValueError):
    """Factors whose shapes cannot belong together."""

    code = "shape"


class NonFiniteError(LoraAnalysisError, ValueError):
    """NaN or infinity among values that have to be numbers."""

    code = "non-finite"


class OpaqueUpdateError(LoraAnalysisError, ValueError):
    """The update multiplies or rotates the base weight: without the base there is no delta."""

    code = "opaque"


class OptionError(LoraAnalysisError, ValueError):
    """A request that cannot be met."""

    code = "option"


class FileAccessError(LoraAnalysisError, OSError):
    """The path is missing, is not a regular file, or may not be read."""

    code = "file-access"


class OutputError(LoraAnalysisError, OSError):
    """The result could not be written. Whatever was at the target is unchanged.

    One exception, and the message says so: the new file is in place, whole, and only making its name durable failed.
    """

    code = "output"


class MissingExtraError(LoraAnalysisError, ImportError):
    """An optional part is not installed; the message holds the install line."""

    code = "missing-extra"

    def __init__(self, message: str, *, extra: str) -> None:
        super().__init__(message)
        self.extra = extra
        self.install = f"pip install 'lora-analysis[{extra}]'"

    def to_dict(self) -> dict[str, str]:
        return {**super().to_dict(), "install": self.install}


class CancelledError(LoraAnalysisError):
    """The caller asked to stop; nothing was written."""

    code = "cancelled"
