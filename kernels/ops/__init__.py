"""The ops of the kernels, gathered from the modules of this folder."""

from embpress.kernels.gather import gather

gather(__name__)
