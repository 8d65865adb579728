"""`python -m posekit`: the command line, see posekit/cli.py."""

import sys

from posekit.cli import main

sys.exit(main())
