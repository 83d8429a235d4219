"""electrictown.yaml -> Config: found, read, checked, every error at once with its line and remedy.

    yaml_tree   YAML text -> plain data that remembers its lines
    variables   $VAR and ${VAR} from the environment
    compat      what files of the Go original say in other words
    checks      references, keys, fallbacks: what one field alone cannot know
    schema      the models, and so the documentation
    load        the way through all of them

pydantic is imported here and nowhere else, and takes its time: import this package only where it is used.
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
