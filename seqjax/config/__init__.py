"""Configuration: files and `--config.key=value` become frozen dataclasses.

`sections` has the dataclasses that every run has, `building` makes dataclasses of plain
data, `files` reads files and overrides, `resolving` chooses the families by name, `giving`
compares what losses need with what models and tasks give, `describing` says what every key
means. The dataclasses of models, tasks and losses live beside their code and are passed to
`resolve` as literal dicts.
"""

from seqjax.config.building import (
    ConfigError,
    build,
    coerce,
    nearest,
    to_plain,
    type_name,
)
from seqjax.config.files import apply_overrides, load_file
from seqjax.config.giving import check_needs, gives
from seqjax.config.resolving import (
    family_config,
    import_object,
    resolve,
    resolve_model,
    with_own,
)
from seqjax.config.sections import (
    BatchingConfig,
    CheckpointConfig,
    Config,
    DataclassInstance,
    GenerationConfig,
    LogConfig,
    LossSection,
    MeshConfig,
    ModelSection,
    OptimizerConfig,
    ScheduleConfig,
    Section,
    TaskSection,
    TrainConfig,
    ValidConfig,
)

__all__ = [
    "BatchingConfig",
    "CheckpointConfig",
    "Config",
    "ConfigError",
    "DataclassInstance",
    "GenerationConfig",
    "LogConfig",
    "LossSection",
    "MeshConfig",
    "ModelSection",
    "OptimizerConfig",
    "ScheduleConfig",
    "Section",
    "TaskSection",
    "TrainConfig",
    "ValidConfig",
    "apply_overrides",
    "build",
    "check_needs",
    "coerce",
    "family_config",
    "gives",
    "import_object",
    "load_file",
    "nearest",
    "resolve",
    "resolve_model",
    "to_plain",
    "type_name",
    "with_own",
]
