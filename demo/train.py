"""Trains a classifier of handwritten digits with SGD and logs every epoch.

The data ships with scikit-learn (1,797 images of 8 by 8 pixels): nothing is downloaded.
"""

import wandb
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

DEFAULTS = {"epochs": 20, "learning_rate": 0.02, "batch_size": 64, "seed": 7}


def main() -> None:
    with wandb.init(config=DEFAULTS) as run:
        config = run.config
        images, digits = load_digits(return_X_y=True)
        train_x, test_x, train_y, test_y = train_test_split(
            images / 16.0, digits, test_size=0.25, random_state=config.seed, stratify=digits
        )
        model = SGDClassifier(
            loss="log_loss",
            learning_rate="constant",
            eta0=config.learning_rate,
            random_state=config.seed,
        )
        print(f"training on {len(train_x)} images, testing on {len(test_x)}", flush=True)
        classes = list(range(10))
        for epoch in range(config.epochs):
            for start in range(0, len(train_x), config.batch_size):
                batch = slice(start, start + config.batch_size)
                model.partial_fit(train_x[batch], train_y[batch], classes=classes)
            loss = log_loss(test_y, model.predict_proba(test_x), labels=classes)
            accuracy = model.score(test_x, test_y)
            run.log({"epoch": epoch + 1, "loss": loss, "accuracy": accuracy})
            print(f"epoch {epoch + 1:2d}/{config.epochs}  loss {loss:.4f}  accuracy {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
