"""What `accelerate launch` tells the script that it starts, without the seconds that the launcher itself takes."""

import os

from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env


def launcher_environment(*flags: object) -> dict[str, str]:
    """The environment variables by which `accelerate launch FLAGS run_toxicity.py` passes its settings on."""
    asked = launch_command_parser().parse_args([*map(str, flags), "run_toxicity.py"])
    settings, *_ = _validate_launch_command(asked)
    _, environment = prepare_simple_launcher_cmd_env(settings)
    return {name: value for name, value in environment.items() if os.environ.get(name) != value}
