"""The command line `recsys`: nouns with verbs, and on top the commands that run the product.

Each group is a module of the same name: `data`, `model`, `study`, `experiment`, `key`, `gpu` and `config`. The commands on top are in
`pipeline` (retrain, etl, monitor), `serve` (serve, demo) and `operation` (setup, doctor). `main` assembles them, and `old_names`
adds the names that the commands had before there were groups.

Why the names are what they are:

- A noun in the singular, then a verb, as in Prefect (`prefect deployment inspect`) and DVC (`dvc data status`). mlflow and feast
  write the noun in the plural. What means the same has the same name in each group: `list` lists, as in feast and DVC, and `show`
  shows one thing in detail. So it is `gpu list`, although Prefect says `ls`.
- What a schedule or a person runs as a whole stays on top, because it belongs to no noun: `retrain` makes a dataset, a model and a
  decision.
- `model promote` and `model rollback` say what the promotion log says. mlflow's stages and aliases can be overwritten; the log is
  only ever appended to, so `model log` shows it like `git log`.
- A study takes many trainings and ends with a report. It is Optuna's word for a search. `experiment` would be the word of mlflow
  and DVC, but here an experiment is an A/B test on live traffic.
- `data open` opens any object of the store, so it also opens a model's page. The address says where the object is, and the reader
  need not know what it belongs to.
- `data files` lists the landed files and what became of their rows. The files of a version are listed by `data open`.
"""
