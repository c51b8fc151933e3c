"""A store on the other node of a Slurm job: started, counted and ended there by an agent, used from here over the network."""
