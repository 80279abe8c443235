import sys

from torchopt_ref.cli import main

sys.exit(main())
