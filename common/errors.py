"""The errors that Stillhouse raises on purpose.

    StillhouseError            everything below
    ├── UserError              the user can mend it: one clear line, exit code 2
    │   ├── ConfigError        a recipe or an override
    │   ├── PolicyFileError    a teacher or student file: missing, truncated, foreign, hostile
    │   │   └── PolicyMissingError   a teacher is not there
    │   ├── MismatchError      two things that must fit do not (teacher and environment, …)
    │   ├── ResourceError      the machine or the cluster is too small for the recipe
    │   ├── RunDirectoryError  the run directory cannot be used as asked
    │   ├── DatasetError       a recorded dataset: missing, damaged, foreign
    │   └── StorageError       files cannot be read or written where they should be
    │       └── FileMissingError   a file is not there
    └── RunFailedError         the run gave up: restarts used up, repeated NaN, no new samples

A message says what is wrong, the value, and what to do, in one line.
"""


class StillhouseError(Exception):
    """Root of every error raised on purpose."""


class UserError(StillhouseError):
    """A mistake that the user can mend; the command line exits with code 2."""


class ConfigError(UserError):
    """A recipe or an override is wrong."""


class PolicyFileError(UserError):
    """A policy file is missing, truncated, foreign or unsafe to read."""


class PolicyMissingError(PolicyFileError):
    """A teacher is not where it should be."""


class MismatchError(UserError):
    """Two things that must fit do not."""


class ResourceError(UserError):
    """The machine or the cluster has too little of something."""


class RunDirectoryError(UserError):
    """A run directory cannot be used as asked."""


class DatasetError(UserError):
    """A recorded dataset is missing, damaged, foreign or of another version."""


class StorageError(UserError):
    """Files cannot be read or written where they should be: a full disk, no access, no network."""


class FileMissingError(StorageError):
    """A file is not there."""


class RunFailedError(StillhouseError):
    """The run gave up; what it had is saved."""
