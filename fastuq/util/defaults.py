"""Defaults of slow modules that help texts name too: nothing heavy is imported for them."""

BATCH_SIZE = 256
"""Images of a feature cache that share a checksum."""
JOBS = 2
"""Processes that corrupt images."""
NETWORK, WEIGHTS = "efficientnet_lite0", "imagenet"
"""What is trained, and from where it starts."""
PAPER_HEAD = "bn,0.2:300:relu,0.4:sigmoid"
"""The head of arXiv 2403.01076: BatchNorm, dropout .2, dense 300 relu, dropout .4, dense C sigmoid."""
NETWORKS, QUICK_NETWORKS = ("resnet50", "efficientnet_b0", "bundled"), ("bundled",)
TRAINED = {"resnet50": "resnet50-cifar100", "efficientnet_b0": "efficientnet-b0-cifar100"}
"""Folders of the paper's networks trained on CIFAR-100, below models in the data folder."""
RANDOM = "random-"
"""What is put before the name of a network to have it random, not trained."""
BY_IMAGE = ("efficientnet_b0",)
"""Random networks with activations in the range of each image: `fastuq train` finds that trained ones need it."""
ROUNDS, QUICK_ROUNDS = 7, 3
"""What the benchmark measures, and how often."""
REFERENCE_ROWS = 5000
"""Training samples whose features a reference keeps."""
