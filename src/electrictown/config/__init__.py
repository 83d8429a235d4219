"""electrictown.yaml -> Config: found, read, checked, every error at once with its line and remedy.

    yaml_tree   YAML text -> plain data that remembers its lines
    variables   $VAR and ${VAR} from the environment
    compat      what files of the Go original say in other words
    checks      references, keys, fallbacks: what one field alone cannot know
    parts       what the annotations of a struct say of its keys
    schema      the structs, and so the documentation
    reading     plain data -> those structs
    load        the way through all of them

PyYAML takes its time to import: import this package only where it is used.
"""

from electrictown.config.load import find_config, load_config, load_env_file, parse_config
from electrictown.config.origin import Origin
from electrictown.config.schema import (
    Config,
    DefaultsConfig,
    ModelConfig,
    PriceConfig,
    ProviderConfig,
    RoleConfig,
    SpecialistConfig,
    TimeoutsConfig,
)

__all__ = [
    "Config",
    "DefaultsConfig",
    "ModelConfig",
    "Origin",
    "PriceConfig",
    "ProviderConfig",
    "RoleConfig",
    "SpecialistConfig",
    "TimeoutsConfig",
    "find_config",
    "load_config",
    "load_env_file",
    "parse_config",
]
