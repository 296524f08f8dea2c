"""`python -m cuda_report`, with tests/tools on the path."""

import sys

from cuda_report.report import main

sys.exit(main())
