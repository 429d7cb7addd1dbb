"""Splits the gas batches as train_gas.py does, for tests: writes CSV files into a folder that is not kept.

usage: split_gas.py --data DIR --out DIR
writes batch01-train.csv, batch01-heldout.csv, batch02-test.csv and batch01-02-train.csv, each with the columns and row order of the original.
"""

import argparse
import os


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)

    def read(name):
        with open(os.path.join(args.data, name)) as file:
            head, *rows = file.read().splitlines()
        return head, rows

    def write(name, head, rows):
        with open(os.path.join(args.out, name), "w") as file:
            file.write("\n".join([head, *rows]) + "\n")

    head, one = read("batch01.csv")
    _, two = read("batch02.csv")
    train1 = [r for i, r in enumerate(one) if i % 4 != 3]
    train2 = [r for i, r in enumerate(two) if i % 2 != 1]
    write("batch01-train.csv", head, train1)
    write("batch01-heldout.csv", head, [r for i, r in enumerate(one) if i % 4 == 3])
    write("batch02-test.csv", head, [r for i, r in enumerate(two) if i % 2 == 1])
    write("batch01-02-train.csv", head, train1 + train2)


if __name__ == "__main__":
    main()
