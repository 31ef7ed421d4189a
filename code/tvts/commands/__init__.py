"""`tvts <stage>`: one thin command per stage, each with an example in its help; what they call is imported when they run.

Every rule of the workflow calls one; each works without Snakemake too."""
