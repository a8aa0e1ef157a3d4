"""Everything that can go wrong on purpose. Each message names the cure.

CaptioningError
├── InputError            something a person handed in cannot be used
│   ├── ImageError        no picture, a broken one, or one beyond the limits
│   ├── VideoError        no clip, a broken one, or one beyond the limits
│   ├── PromptError       no prompts, too many, or too long
│   ├── OptionsError      decoding options that contradict each other
│   └── DataError         pictures that cannot be gathered: a folder, archive or table that is not as it should be
├── ModelError            a model cannot be had or used
│   ├── UnknownModelError no model of that name
│   ├── ModelFilesError   files that are missing, unsafe, or do not belong together
│   ├── HubError          the hub cannot be reached or refuses
│   ├── AcceleratorError  a GPU that is lent by the call is not to be had, or was taken back
│   ├── CapabilityError   the model's architecture does not allow what was asked
│   └── FeaturesError     features or a caption of another model
├── DeployError           a Space that cannot be described or deployed as asked
├── LimitError            the server's limit on time or on work at once is reached
└── Stopped               the caller asked to stop
"""


class CaptioningError(Exception):
    """Base of all expected failures; `str(error)` is one sentence for people."""


class InputError(CaptioningError):
    """Something a person handed in cannot be used."""


class ImageError(InputError):
    """No picture, a broken one, or one beyond the limits."""


class VideoError(InputError):
    """No clip, a broken one, or one beyond the limits."""


class PromptError(InputError):
    """No prompts, too many, or too long."""


class OptionsError(InputError):
    """Options or settings that contradict each other, leave their ranges, or ask for what is not here."""


class DataError(InputError):
    """A folder, an archive or a table of pictures that is not as it should be, or beyond the limits."""


class ModelError(CaptioningError):
    """A model cannot be had or used."""


class UnknownModelError(ModelError):
    """No model of that name."""


class ModelFilesError(ModelError):
    """Model files that are missing, unsafe, or do not belong together."""


class HubError(ModelError):
    """The hub cannot be reached or refuses."""


class AcceleratorError(ModelError):
    """A GPU that is lent by the call is not to be had, or was taken back."""


class CapabilityError(ModelError):
    """The model's architecture does not allow what was asked."""


class FeaturesError(ModelError):
    """Features or a caption of another model."""


class LimitError(CaptioningError):
    """The server's limit on time or on work at once is reached."""


class DeployError(CaptioningError):
    """A Space that cannot be described or deployed as asked."""


class Stopped(CaptioningError):  # noqa: N818 - it is no error
    """The caller asked to stop; nothing is wrong."""


def first_line(error: BaseException) -> str:
    """Return an error's message in one line, without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")[:200]
