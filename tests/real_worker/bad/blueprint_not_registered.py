"""host: forgotten is declared but absent"""

import azure.functions as func

app = func.FunctionApp()


blueprint = func.Blueprint()


@app.timer_trigger("timer", "0 * * * * *")
def present(timer: func.TimerRequest) -> None: ...


@blueprint.timer_trigger("timer", "0 * * * * *")
def forgotten(timer: func.TimerRequest) -> None: ...


del blueprint  # as if it stood in a module that function_app.py does not name
