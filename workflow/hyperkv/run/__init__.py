"""What a run of Snakemake does around its jobs: takes up, holds results against what is asked, says its last words."""
