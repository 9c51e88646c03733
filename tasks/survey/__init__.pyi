from .proposal import Proposal, proposal_of
from .shown import column_rows, dataset_of_champion, fact_rows, settings_file, write_settings
from .survey import Survey, survey_of
from .tables import SurveyedTable

__all__ = [
    "Proposal",
    "Survey",
    "SurveyedTable",
    "column_rows",
    "dataset_of_champion",
    "fact_rows",
    "proposal_of",
    "settings_file",
    "survey_of",
    "write_settings",
]
