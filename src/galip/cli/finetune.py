"""`galip finetune`; see `galip.cli.train`."""

from galip.cli.train import finetune as finetune
