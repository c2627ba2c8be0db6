#!/usr/bin/env bash
#SBATCH --job-name=tf_lottery
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --time=04:00:00
# A job that lost a node is started again, and goes on after the last epoch.
#SBATCH --requeue
set -eu

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export COORDINATOR="${nodes%%$'\n'*}:12345"
export NUM_PROCESSES="$SLURM_NTASKS"
export FOLDER="${FOLDER:-/shared/rigl}"
mkdir -p "$FOLDER"
# The other tasks would wait for one that has failed, so all end, and start again, up to ten times.
if ! srun --kill-on-bad-exit=1 bash -c 'PROCESS_ID=$SLURM_PROCID exec python train.py'; then
    [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ] && scontrol requeue "$SLURM_JOB_ID"
fi
