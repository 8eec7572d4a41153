#!/bin/bash
# A study as a SLURM array: N jobs share nothing but a file system, each makes one part in a folder of its own, and a
# last job puts them together. Copy it, set the four names below and the array's size, and submit it from the folder
# that holds the study:
#
#     array=$(sbatch --parsable slurm_array.sh)
#     sbatch --dependency=afterok:$array --time=00:30:00 --mem=4G --wrap "vcbench study collect runs/my_study"
#
# Parts are numbered 1/N … N/N: let the array begin at 1. A job that met its walltime, or whose node died, goes on where
# it stopped: submit the same array again, finished parts end at once. `vcbench study status runs/my_study` says how far
# each part is, and `collect` names what is missing.
#
#SBATCH --job-name=my_study
#SBATCH --array=1-20
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=2G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
# (SIGTERM a minute before the walltime: the run ends cleanly with everything it finished, exit code 130)
#SBATCH --output=my_study-%A-%a.log

set -euo pipefail

STUDY=my_study.toml   # its number of replicates has to be fixed: `replicates`, or --reps below
OUT=runs/my_study     # on a file system that all nodes see; part I goes to $OUT/shards/I-of-N
N=20                  # as in --array=1-20
VCBENCH=vcbench       # the same environment on every node: parts of two versions are not the same study

export OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 OMP_NUM_THREADS=1   # one process a core, one BLAS thread a process

# exec: the signal reaches vcbench itself. Numba's compiled code is cached beside the package, or where NUMBA_CACHE_DIR
# says: set it to a folder of the node (such as $TMPDIR) where the package's folder cannot be written.
exec "$VCBENCH" study run "$STUDY" --out "$OUT" --shard "${SLURM_ARRAY_TASK_ID}/$N" \
    --workers "${SLURM_CPUS_PER_TASK:-1}" --progress plain
