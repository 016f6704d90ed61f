"""worker: No module named 'no_such_package'"""

import azure.functions as func
import no_such_package

app = func.FunctionApp()
app.extra = no_such_package
